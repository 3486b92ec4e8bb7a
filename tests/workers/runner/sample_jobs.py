"""Jobs that do one thing each, for a runner under test: some good, most going wrong."""

import ctypes
import fcntl
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import BinaryIO

import numpy as np
import torch
from pydantic import JsonValue

from service.contract.failures import FailureCode
from workers.protocol.errors import JobError
from workers.protocol.progress import ProgressWriter, Stage
from workers.protocol.result import JobResult

Arguments = Mapping[str, JsonValue]
Files = Sequence[BinaryIO]


def echo(arguments: Arguments, files: Files, progress: ProgressWriter) -> JobResult:
    contents = [file.read() for file in files]
    progress.report(Stage.REPORTING, 1, 1)
    header = {"arguments": dict(arguments), "sizes": [len(content) for content in contents]}
    return JobResult(header, {f"file-{i}": content for i, content in enumerate(contents)})


def surroundings(*_: object) -> JobResult:
    """What a child can see of its parents."""
    return JobResult(
        {
            "environment": dict(os.environ),
            "descriptors": sum(_is_open(fd) for fd in range(1024)),
            "stdin": os.read(0, 1).decode(),
        }
    )


def _is_open(fd: int) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_GETFD)
    except OSError:
        return False
    return True


def compute(*_: object) -> JobResult:
    """Enough work on enough threads to deadlock, were the parent's thread pool inherited."""
    matrix = torch.randn(400, 400, dtype=torch.float64)
    values = torch.linalg.eigvalsh(matrix @ matrix.T)
    images = torch.nn.functional.conv2d(torch.randn(32, 3, 64, 64), torch.randn(16, 3, 3, 3))
    return JobResult(
        {
            "threads": torch.get_num_threads(),
            "largest": float(values[-1]),
            # Where torch's solver gives up, numpy's own takes over.
            "largest_otherwise": float(np.linalg.eigh((matrix @ matrix.T).numpy())[0][-1]),
            "mean": float(images.mean()),
        }
    )


def slowly(_arguments: Arguments, _files: Files, progress: ProgressWriter) -> JobResult:
    for done in range(50):
        progress.report(Stage.EVALUATING, done, 50)
        time.sleep(0.02)
    return JobResult({})


def hang(_arguments: Arguments, _files: Files, progress: ProgressWriter) -> JobResult:
    """Never end; say the process id."""
    progress.report(Stage.LOADING_MODEL, os.getpid())
    time.sleep(600)
    return JobResult({})


def spin(*_: object) -> JobResult:
    while True:
        pass


def refuse(*_: object) -> JobResult:
    raise JobError(
        FailureCode.HEAD_NOT_FOUND, "no head\x1b[31m", hint="add one", detail={"seen": ["conv"]}
    )


def claim_lost(*_: object) -> JobResult:
    raise JobError(FailureCode.LOST, "run me for ever")


def stumble(*_: object) -> JobResult:
    raise RuntimeError("cannot read /srv/secret/place/model.bin\nmore of it")


def segfault(*_: object) -> JobResult:
    ctypes.string_at(0)
    return JobResult({})


def kill_self(*_: object) -> JobResult:
    os.kill(os.getpid(), signal.SIGKILL)
    return JobResult({})


def leave(*_: object) -> JobResult:
    os._exit(7)


def hog_numpy(*_: object) -> JobResult:
    kept = [np.ones(1 << 23) for _ in range(1000)]
    return JobResult({"kept": len(kept)})


def hog_torch(*_: object) -> JobResult:
    kept = [torch.ones(1 << 24) for _ in range(1000)]
    return JobResult({"kept": len(kept)})


def big_result(*_: object) -> JobResult:
    return JobResult({}, {"zeros": bytes(4 << 20)})


def flood(_arguments: Arguments, _files: Files, progress: ProgressWriter) -> JobResult:
    """Print far too much, through Python and past it."""
    sys.stdout.write("\x1b[2J first words\0\n")
    for _ in range(2000):
        sys.stdout.write("x" * 1000)
    try:
        while True:
            os.write(2, b"y" * 4096)
    except OSError:
        pass
    for done in range(10_000):
        progress.report(Stage.EVALUATING, done, 0)
    return JobResult({"done": True})


def write_raw(_arguments: Arguments, files: Files, _progress: ProgressWriter) -> JobResult:
    """Write a result file of one's own making, as code that has taken over a child can."""
    result = next(fd for fd in range(3, 1024) if _is_open(fd) and _is_for_both(fd))
    os.write(result, files[0].read())
    os._exit(0)


def _is_for_both(fd: int) -> bool:
    """Inputs can be read only, and progress be written only."""
    return fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR


JOBS = {
    job.__name__: job
    for job in (
        echo, surroundings, compute, slowly, hang, spin, refuse, claim_lost, stumble,
        segfault, kill_self, leave, hog_numpy, hog_torch, big_result, flood, write_raw,
    )
}  # fmt: skip
