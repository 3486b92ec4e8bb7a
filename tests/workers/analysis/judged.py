"""The whole job of an analysis, in this process."""

import io
import os
from typing import Any

import numpy as np
from support import npz, scripted
from torch import nn

from service.failures import Failure
from workers.analysis.job import analyse
from workers.errors import JobError
from workers.runner.progress import ProgressWriter

Spec = dict[str, object]
Arrays = dict[str, np.ndarray]


def judge(
    model: nn.Module,
    arrays: Arrays,
    spec: Spec | None = None,
    *,
    eval_arrays: Arrays | None = None,
    eval_spec: Spec | None = None,
    **options: object,
) -> dict[str, Any]:
    """The figures of an analysis.

    Raises:
        JobError: As the job.
    """
    arguments = {
        "spec": spec or {},
        "eval_spec": None if eval_arrays is None else eval_spec or {},
        "limits": {},
        "layers_bytes": 1 << 28,
        "memory_bytes": 8 << 30,
        "result_bytes": 1 << 30,
        "options": options,
    }
    probes = [each for each in (arrays, eval_arrays) if each is not None]
    files = [io.BytesIO(scripted(model.eval())), *(io.BytesIO(npz(**each)) for each in probes)]
    reading, writing = os.pipe2(os.O_NONBLOCK)
    try:
        return analyse(arguments, files, ProgressWriter(writing)).header
    finally:
        os.close(reading)
        os.close(writing)


def refused(model: nn.Module, arrays: Arrays, spec: Spec | None = None, **rest: object) -> Failure:
    """Why an analysis is refused, and what to do."""
    try:
        judge(model, arrays, spec, **rest)  # type: ignore[arg-type]
    except JobError as error:
        failure = error.failure
        assert failure.hint
        return failure
    raise AssertionError("the analysis was not refused")
