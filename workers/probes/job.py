"""The job that validates a probe after its registration."""

from collections.abc import Mapping, Sequence
from typing import BinaryIO

from pydantic import JsonValue

from service.contract.probe_spec import ProbeSpec
from workers.probes.probe import inspect_probe
from workers.protocol.arguments import ProbeLimits
from workers.protocol.progress import ProgressWriter, Stage
from workers.protocol.result import JobResult


def validate_probe(
    arguments: Mapping[str, JsonValue], files: Sequence[BinaryIO], progress: ProgressWriter
) -> JobResult:
    """Read a probe and report what it is.

    Args:
        arguments: `spec` (a `ProbeSpec`) and `max_bytes` (the largest array to read).
        files: The probe.
        progress: Told that the probe is being read.

    Returns:
        A header that is a `ProbeSummary`, and no sections.

    Raises:
        JobError: `probe_unreadable`, `too_few_samples`, `non_finite`.
    """
    (file,) = files
    progress.report(Stage.READING_PROBE)
    summary = inspect_probe(
        file,
        ProbeSpec.model_validate(arguments["spec"]),
        ProbeLimits.model_validate({"max_array_bytes": arguments["max_bytes"]}),
    )
    return JobResult(summary.model_dump(mode="json"))
