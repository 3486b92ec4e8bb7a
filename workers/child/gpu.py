"""CUDA in a job's process: libraries loaded by the warm parent, a context made before the walls.

Whatever needs files, sockets and shared memory is done while the process still runs our code alone.
Afterwards the driver needs `ioctl` on the files that it has open by then, and nothing else (seen on
an H100 with driver 580 and torch 2.11, with strace). Only page-locked host memory cannot be had.
"""

import ctypes
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from pydantic import JsonValue
from torch.nn.functional import conv2d

from workers.protocol.result import JobResult

_PARTS = {"libcudnn.so": "libcudnn_*.so*", "libnvrtc.so": "libnvrtc-builtins.so*"}
"""Libraries that load others from their own directory when those are first used."""

_DEVICES = "/dev/nvidia"
_VISIBLE = "CUDA_VISIBLE_DEVICES"


def load_libraries() -> None:
    """Load, in the warm parent, what torch and CUDA's libraries load late; none starts CUDA.

    Raises:
        OSError: A library is damaged.
    """
    with torch.device("cpu"):  # torch imports the mode behind it when it is first used
        torch.empty(0)
    for library in _loaded():
        for name, parts in _PARTS.items():
            if library.name.startswith(name):
                for part in sorted(library.parent.glob(parts)):
                    ctypes.CDLL(str(part))


@contextmanager
def hidden() -> Iterator[None]:
    """Let torch find no GPU within: exporting a program, for one, starts CUDA where there is one.

    No child could use it after that.
    """
    visible = os.environ.get(_VISIBLE)
    os.environ[_VISIBLE] = ""
    try:
        yield
    finally:
        del os.environ[_VISIBLE]
        if visible is not None:
            os.environ[_VISIBLE] = visible


def open_context() -> frozenset[int]:
    """Start CUDA in this process, and use what jobs use of it once.

    Returns:
        The descriptors through which it talks to the driver.

    Raises:
        RuntimeError: There is no GPU, or no driver for it.
    """
    # As on a CPU: products in full precision, and the same ones in every run.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    torch.cuda.init()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    with torch.inference_mode():
        ones = torch.ones(64, 64, device="cuda")
        conv2d(ones.reshape(1, 1, 64, 64), ones[:3, :3].reshape(1, 1, 3, 3))
        # Loads the linear algebra, which starts CUDA and so is not for the warm parent to load.
        double = (ones @ ones).double()
        torch.linalg.eigh(double)
        torch.linalg.qr(double)
        torch.linalg.cholesky_ex(double)
    torch.cuda.synchronize()
    return frozenset(
        int(entry.name)
        for entry in Path("/proc/self/fd").iterdir()
        if entry.is_symlink() and str(entry.readlink()).startswith(_DEVICES)
    )


def describe(_arguments: Mapping[str, JsonValue], *_: object) -> JobResult:
    """Return the GPU that a child got: a job, and a proof that children can have one."""
    found = torch.cuda.get_device_properties(0)
    return JobResult({"name": found.name, "memory_bytes": found.total_memory})


def _loaded() -> list[Path]:
    """Return paths of the libraries in this process's memory."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return sorted({Path(line.split(maxsplit=5)[5]) for line in lines if ".so" in line})
