"""What children with a GPU are made to do by the tests."""

import ctypes
import errno
import mmap
import os
from collections.abc import Callable, Mapping, Sequence
from typing import BinaryIO

import torch
from pydantic import JsonValue

from workers.protocol.result import JobResult

PATTERN = 0x5EC2E7
_DRIVER_FILES = range(3, 64)
_CARD_INFO = 0xC00046C8  # the driver's call that lists GPUs: read and write, type F, number 200
_libc = ctypes.CDLL(None, use_errno=True)


def attempt(function: Callable[[], object]) -> int:
    """0 if it works, the error number otherwise."""
    try:
        function()
    except OSError as error:
        return error.errno or -1
    return 0


def ioctl(fd: int) -> int:
    """The answer of the call that lists GPUs: 0, or the error number."""
    ctypes.set_errno(0)
    buffer = ctypes.create_string_buffer(1 << 14)
    answer = _libc.ioctl(fd, ctypes.c_ulong(_CARD_INFO), buffer)
    return 0 if answer >= 0 else ctypes.get_errno()


def fill(arguments: Mapping[str, JsonValue], *_: object) -> JobResult:
    """Leave a pattern all over the GPU's memory."""
    elements = int(arguments["bytes"]) // 4  # type: ignore[arg-type]  # a number
    return _count(torch.full((elements,), PATTERN, dtype=torch.int32, device="cuda"))


def search(arguments: Mapping[str, JsonValue], *_: object) -> JobResult:
    """Look for the pattern in memory that was never written to."""
    elements = int(arguments["bytes"]) // 4  # type: ignore[arg-type]  # a number
    return _count(torch.empty(elements, dtype=torch.int32, device="cuda"))


def _count(held: torch.Tensor) -> JobResult:
    """A part at a time, for comparing takes memory, too."""
    return JobResult({"found": sum(int((part == PATTERN).sum()) for part in held.split(1 << 26))})


def hog(*_: object) -> JobResult:
    """Ask for more memory than any GPU has."""
    torch.empty(1 << 42, dtype=torch.uint8, device="cuda")
    return JobResult({})


def spin(*_: object) -> JobResult:
    """Keep the GPU busy for minutes with one kernel."""
    torch.cuda._sleep(1 << 40)
    torch.cuda.synchronize()
    return JobResult({})


def reach(_arguments: Mapping[str, JsonValue], files: Sequence[BinaryIO], *_: object) -> JobResult:
    """Try what the driver's files would allow, and what has nothing to do with them."""
    links = {fd: ioctl(fd) for fd in _DRIVER_FILES}
    devices = [fd for fd, answer in links.items() if answer not in (errno.ENOTTY, errno.EBADF)]
    return JobResult(
        {
            "devices": len(devices),
            "ioctl_on_a_file": ioctl(files[0].fileno()),
            "ioctl_on_a_pipe": ioctl(1),
            "open_the_gpu": attempt(lambda: os.open("/dev/nvidia0", os.O_RDONLY)),
            "open_the_driver": attempt(lambda: os.open("/dev/nvidiactl", os.O_RDONLY)),
            "map_the_gpu": attempt(lambda: mmap.mmap(devices[-1], 4096, mmap.MAP_SHARED)),
            "map_shared_memory": attempt(
                lambda: mmap.mmap(-1, 4096, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
            ),
        }
    )


def compute(*_: object) -> JobResult:
    """What models do, in many precisions, and a digest of what came out."""
    torch.manual_seed(1)
    total = 0.0
    with torch.inference_mode():
        images = torch.randn(16, 3, 64, 64).cuda()
        for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
            kernel = torch.randn(64, 3, 3, 3).to("cuda", dtype)
            total += float(torch.nn.functional.conv2d(images.to(dtype), kernel).double().sum())
            lstm = torch.nn.LSTM(64, 32).to("cuda", dtype)
            total += float(lstm(images[:, 0].to(dtype))[0].double().sum())
            query = images.to(dtype)
            attended = torch.nn.functional.scaled_dot_product_attention(query, query, query)
            total += float(attended.double().sum())
        total += float(torch.fft.fft2(images).abs().double().sum())
        total += float(torch.linalg.svdvals(images[0, 0].double()).sum())
        total += float(images.flatten().sort().values[:100].double().sum())
    return JobResult({"total": total})


JOBS = {
    "fill": fill,
    "search": search,
    "hog": hog,
    "spin": spin,
    "reach": reach,
    "compute": compute,
}
