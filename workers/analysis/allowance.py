"""Checking, before the whole probe is run, that a job may use the memory that its figures need."""

import torch

from service.contract.failures import FailureCode
from workers.analysis.rows import KEPT_ROWS
from workers.diagnostics import MIN_SAMPLES
from workers.diagnostics.plan import Problem
from workers.protocol.errors import JobError
from workers.protocol.requests import Device

# Per feature of a kept row: float32 as the model returns it, and float64 for its projection.
_BYTES_PER_KEPT_FEATURE = 12


def check_allowance(
    problem: Problem, *, positions: int, taken_bytes: int, memory_bytes: int, result_bytes: int
) -> None:
    """Refuse a problem that needs more memory, or a larger result file, than a job may have.

    Args:
        problem: Sizes of the problem.
        positions: Rows per sample.
        taken_bytes: Bytes that probe and model have allocated so far.
        memory_bytes: Bytes that the job may allocate.
        result_bytes: Bytes of the largest file that the job may write.

    Raises:
        JobError: `out_of_memory`, with the number of samples that would do.
    """
    kept = _kept_bytes(problem)
    available = memory_bytes - taken_bytes - kept
    fits_memory = problem.memory_bytes <= available
    fits_file = problem.artifact_bytes <= result_bytes
    if fits_memory and fits_file:
        return
    sizes = f"p = {problem.p:,} features, {problem.c:,} outputs and {problem.rows:,} rows"
    if fits_memory:
        message = (
            f"The sums over {sizes} take {_gib(problem.artifact_bytes)} as a file, and the result "
            f"of a job may take {_gib(result_bytes)}."
        )
    else:
        message = (
            f"The figures of {sizes} need {_gib(problem.memory_bytes)} of memory, and "
            f"{_gib(max(available, 0))} of the {_gib(memory_bytes)} that a job may allocate are "
            "left beside model and probe."
        )
    advice = []
    rows = problem.most_rows(available, result_bytes)
    samples = rows // positions
    if samples >= MIN_SAMPLES:
        reason = (
            "with fewer rows than features a smaller problem gives the same figures of these "
            "samples"
            if rows < problem.p
            else "sums are kept of the classes that occur, which fewer samples have fewer of"
        )
        advice.append(f'Set "max_samples" to {samples:,} or less: {reason}.')
    if fits_file:
        needed = problem.memory_bytes + taken_bytes + kept
        advice.append(
            f"Have PHISCOPE_JOB_MEMORY_BYTES raised to {needed} ({_gib(needed)}) or more."
        )
    raise JobError(
        FailureCode.OUT_OF_MEMORY,
        message,
        hint=" Or: ".join(advice) or "Use a narrower layer.",
        detail={
            "needed_bytes": problem.memory_bytes,
            "available_bytes": max(available, 0),
            "max_samples": samples,
        },
    )


def choose_device(problem: Problem, device: Device, beside_bytes: int) -> torch.device:
    """Return the device for the figures: the model's GPU if the problem suits it, or the CPU.

    Args:
        problem: Sizes of the problem.
        device: Device of the model, which has run there once.
        beside_bytes: Bytes of the device's memory that other sums need.
    """
    if device == "cuda":
        # Memory that torch's allocator still reserves after the first run can be used again.
        reserved = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        free, _ = torch.cuda.mem_get_info()
        if problem.suits_gpu(free + reserved - beside_bytes - _kept_bytes(problem)):
            return torch.device(device)
    return torch.device("cpu")


def _kept_bytes(problem: Problem) -> int:
    return min(problem.rows, KEPT_ROWS) * problem.p * _BYTES_PER_KEPT_FEATURE


def _gib(count: int) -> str:
    return f"{count / (1 << 30):.3g} GiB"
