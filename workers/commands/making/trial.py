"""A probe file read, and a model tried on it, as a worker does both: in the confined child."""

import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from pydantic import JsonValue

from service.contract.archives import check_archive
from service.contract.options import Options
from service.contract.probe_spec import ProbeSpec, ProbeSummary
from service.platform.settings import Settings
from workers.protocol.arguments import AnalysisArguments, ProbeLimits
from workers.protocol.errors import JobError
from workers.protocol.requests import JobLimits, JobRequest
from workers.runner.outcome import Failed, Succeeded
from workers.runner.supervisor import Runner

_SAMPLES = 2000
"""Enough to see whether the two go together."""


class Trial:
    """Reads probes and tries models, with the limits that a worker here would have."""

    def __init__(self) -> None:
        self._settings = Settings()
        self._runner = Runner()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.close()

    def read(self, probe: Path, spec: ProbeSpec) -> ProbeSummary:
        """Read a probe as its registration does.

        Raises:
            JobError: It is refused.
        """
        arguments: dict[str, JsonValue] = {
            "spec": spec.model_dump(mode="json"),
            "max_bytes": self._settings.max_probe_memory_bytes,
        }
        found = self._run(JobRequest(kind="validate_probe", arguments=arguments), probe)
        return ProbeSummary.model_validate(found)

    def analyse(self, model: Path, probe: Path, spec: ProbeSpec) -> Mapping[str, Any]:
        """Analyse a model on some of a probe's samples.

        Returns:
            The parts of a report.

        Raises:
            ArchiveError: It is no model.
            JobError: It is refused.
        """
        with model.open("rb") as file:
            is_export = check_archive(file) == "torch_export"
        options = Options(max_samples=_SAMPLES)
        arguments = AnalysisArguments(
            spec=spec,
            eval_spec=None,
            limits=ProbeLimits(max_array_bytes=self._settings.max_probe_memory_bytes),
            layers_bytes=self._settings.job_memory_bytes,
            memory_bytes=self._settings.job_memory_bytes,
            result_bytes=self._settings.job_result_bytes,
            options=options,
        )
        request = JobRequest(
            kind="analyse",
            warm_up="torch_export" if is_export else None,
            arguments=arguments.model_dump(mode="json"),
            threads=self._settings.threads_per_job,
        )
        return self._run(request, model, probe)

    def _run(self, request: JobRequest, *files: Path) -> Mapping[str, Any]:
        limits = JobLimits(
            memory_bytes=self._settings.job_memory_bytes,
            result_bytes=self._settings.job_result_bytes,
            landlock=self._settings.landlock,
        )
        with ExitStack() as opened:
            descriptors = []
            for path in files:
                descriptors.append(os.open(path, os.O_RDONLY))
                opened.callback(os.close, descriptors[-1])
            outcome = self._runner.run(
                request,
                descriptors,
                deadline_s=self._settings.job_seconds,
                limits=limits,
                on_tick=lambda _: True,
            )
        if isinstance(outcome, Succeeded):
            return outcome.header
        assert isinstance(outcome, Failed)  # noqa: S101 - nobody cancels it
        failure = outcome.failure
        raise JobError(failure.code, failure.message, hint=failure.hint, detail=failure.detail)
