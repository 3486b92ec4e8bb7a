"""One job's process, from the fork to its one result file."""

import contextlib
import io
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NoReturn, TextIO, cast

import torch

from service.contract.failures import Failure, FailureCode
from workers.child import gpu
from workers.child.confinement import confine
from workers.protocol.errors import JobError, is_out_of_memory
from workers.protocol.failures import defect, out_of_memory
from workers.protocol.progress import ProgressWriter
from workers.protocol.requests import ChildFiles, Job, JobLimits, Request
from workers.protocol.result import encode_failure, encode_result

_STDIN, _STDOUT, _STDERR = range(3)


def run_child(
    request: Request, files: ChildFiles, jobs: Mapping[str, Job], parent: int
) -> NoReturn:
    """Run one job in this freshly forked process, and end the process.

    Args:
        request: The job and its limits.
        files: Its descriptors; every other one is closed.
        jobs: The job table.
        parent: The warm parent's process id.
    """
    exit_code = 1
    try:
        _settle(files)
        torch.set_num_threads(request.job.threads)
        torch.manual_seed(request.job.seed)
        inputs = [os.fdopen(fd, "rb") for fd in files.inputs]
        progress = ProgressWriter(files.progress)
        if request.job.device == "cuda":
            confine(request.limits, parent, gpu.open_context)
        else:
            confine(request.limits, parent)
        progress.confined()
        _write_result(files.result, _run_job(request, inputs, progress, jobs), request.limits)
        exit_code = 0
    except BaseException:  # noqa: BLE001 - whatever it was, the process ends and the log says why
        traceback.print_exc()
    finally:
        os._exit(exit_code)


def _settle(files: ChildFiles) -> None:
    """Leave the parent's session, descriptors and output behind."""
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), _STDIN)
    os.dup2(files.log, _STDOUT)
    os.dup2(files.log, _STDERR)
    kept = {_STDIN, _STDOUT, _STDERR, *files.inputs, files.result, files.progress}
    for fd in {int(entry.name) for entry in Path("/proc/self/fd").iterdir()} - kept:
        with contextlib.suppress(OSError):  # the listing's own is closed by now
            os.close(fd)
    sys.stdout = sys.stderr = cast("TextIO", _Log())


class _Log(io.TextIOBase):
    """Standard output and error: what no longer fits is dropped, so that printing never fails."""

    def write(self, text: str, /) -> int:
        with contextlib.suppress(OSError):
            os.write(_STDOUT, text.encode(errors="backslashreplace"))
        return len(text)


def _run_job(
    request: Request,
    inputs: Sequence[BinaryIO],
    progress: ProgressWriter,
    jobs: Mapping[str, Job],
) -> bytes:
    """Run the job; its result or its failure as the file to write."""
    try:
        job = jobs[request.job.kind]
        return encode_result(job(request.job.arguments, inputs, progress))
    except JobError as error:
        return encode_failure(error.failure)
    except Exception as error:  # noqa: BLE001 - a job runs other people's models, which raise anything
        traceback.print_exc()
        return encode_failure(_unexpected(error, request.limits))


def _unexpected(error: Exception, limits: JobLimits) -> Failure:
    """Say what became of a job that did not foresee its end; the traceback is for the log."""
    return out_of_memory(limits) if is_out_of_memory(error) else defect()


def _write_result(fd: int, content: bytes, limits: JobLimits) -> None:
    if len(content) > limits.result_bytes:
        content = encode_failure(
            Failure(
                code=FailureCode.OUT_OF_MEMORY,
                message=f"The result takes {len(content):,} bytes; at most "
                f"{limits.result_bytes:,} are allowed.",
                hint="Analyse fewer samples, or raise the limit on results.",
            )
        )
    remaining = memoryview(content)
    while remaining:
        remaining = remaining[os.write(fd, remaining) :]
