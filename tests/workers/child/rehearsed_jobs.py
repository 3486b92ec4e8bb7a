"""The product's jobs, each telling which modules it has imported on the way."""

import sys
from collections.abc import Mapping, Sequence
from typing import BinaryIO

import torch
from pydantic import JsonValue

from workers import jobs
from workers.jobs import rehearse
from workers.protocol.progress import ProgressWriter
from workers.protocol.requests import Job
from workers.protocol.result import JobResult


def telling(job: Job) -> Job:
    def run(
        arguments: Mapping[str, JsonValue], files: Sequence[BinaryIO], progress: ProgressWriter
    ) -> JobResult:
        before = set(sys.modules)
        job(arguments, files, progress)
        return JobResult(
            {
                "imported": sorted(set(sys.modules) - before),
                "capability": torch.backends.cpu.get_cpu_capability(),
            }
        )

    return run


JOBS = {kind: telling(job) for kind, job in jobs.JOBS.items()}

__all__ = ["JOBS", "rehearse"]
