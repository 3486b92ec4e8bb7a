"""Judging a model: what the child is asked, and how its answer becomes the report."""

import csv
import hashlib
import io
import json
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any, BinaryIO
from uuid import UUID

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError
from sqlalchemy import func
from sqlalchemy.orm import Session

from service.contract.options import Options
from service.contract.probe_spec import ProbeSpec
from service.contract.progress import Progress
from service.platform.settings import Settings
from service.platform.storage import BlobStore
from service.report.document import Report
from service.tables import analyses as tables
from service.tables.analyses import Analysis, Artifact, Status
from service.tables.models import Model
from service.tables.probes import Probe
from workers.protocol.arguments import AnalysisArguments, ProbeLimits
from workers.protocol.errors import ResultError
from workers.protocol.requests import JobRequest
from workers.runner.outcome import Succeeded
from workers.supervision import subjects
from workers.supervision.stored import open_stored

_SAFETENSORS = "application/vnd.safetensors"
# The sums of all layers may take a quarter of a job's memory. Half may go to the probe's arrays,
# the rest is for the model's activations and the diagonalization of the widest layer.
_LAYERS_SHARE = 4
_ARTIFACTS = {"eigenfunctions.safetensors", "moments.safetensors"}


class AnalysisWork:
    """One model to be judged on one probe.

    What identifies model and probe in the report comes from the database, never from the child.
    """

    def __init__(
        self,
        analysis: Analysis,
        model: Model,
        probe: Probe,
        eval_probe: Probe | None,
        settings: Settings,
    ) -> None:
        self._analysis_id = analysis.id
        self._options = Options.model_validate(analysis.options)
        self._model = {
            "id": model.id,
            "name": model.name,
            "sha256": model.sha256,
            "run": model.run,
            "step": model.step,
        }
        self._probe = _identity(probe)
        self._eval_probe = None if eval_probe is None else _identity(eval_probe)
        self._format = model.format
        self._spec = ProbeSpec.model_validate(probe.spec)
        self._eval_spec = None if eval_probe is None else ProbeSpec.model_validate(eval_probe.spec)
        self._settings = settings
        self._artifacts: list[Artifact] = []
        self._report: Report | None = None

    @classmethod
    def load(cls, session: Session, analysis_id: UUID, settings: Settings) -> "AnalysisWork":
        """Read what there is to do."""
        analysis = session.get_one(Analysis, analysis_id)
        model = session.get_one(Model, analysis.model_id)
        probe = session.get_one(Probe, analysis.probe_id)
        eval_probe = (
            None
            if analysis.eval_probe_id is None
            else session.get_one(Probe, analysis.eval_probe_id)
        )
        return cls(analysis, model, probe, eval_probe, settings)

    @property
    def digests(self) -> Mapping[str, str]:
        """SHA-256 of model and probes."""
        rows = {"model": self._model, "probe": self._probe, "eval_probe": self._eval_probe}
        return {name: str(row["sha256"]) for name, row in rows.items() if row is not None}

    def request(self) -> JobRequest:
        """Return what the child is asked to do."""
        device = "cpu" if self._options.device == "cpu" else self._settings.device
        arguments = AnalysisArguments(
            spec=self._spec,
            eval_spec=self._eval_spec,
            limits=ProbeLimits(max_array_bytes=self._settings.max_probe_memory_bytes),
            layers_bytes=max(1, self._settings.job_memory_bytes // _LAYERS_SHARE),
            memory_bytes=self._settings.job_memory_bytes,
            result_bytes=self._settings.job_result_bytes,
            options=self._options,
            device=device,
        )
        return JobRequest(
            kind="analyse",
            device=device,
            warm_up="torch_export" if self._format == "torch_export" else None,
            arguments=arguments.model_dump(mode="json"),
            threads=self._settings.threads_per_job,
            seed=self._options.seed,
        )

    def open_files(self, store: BlobStore, opened: ExitStack) -> list[BinaryIO]:
        """Open the bytes of the model and of its probes."""
        return [
            open_stored(store, sha256, f"the {name.replace('_', ' ')}", opened)
            for name, sha256 in self.digests.items()
        ]

    def prepare(self, store: BlobStore, outcome: Succeeded) -> None:
        """Validate the child's figures, complete the report, and store the artifacts."""
        figures = dict(outcome.header)
        parameters = figures.pop("parameters", None)
        document = {
            **figures,
            "schema_version": "1",
            "analysis_id": self._analysis_id,
            "created_at": datetime.now(UTC).isoformat(),
            "model": {**self._model, "parameters": parameters},
            "probe": {**_mapping(figures.get("probe")), **self._probe},
            "held_out": self._held_out(_mapping(figures.get("held_out"))),
            "provenance": {
                **_mapping(figures.get("provenance")),
                "seed": self._options.seed,
                "options": self._options.model_dump(mode="json"),
            },
        }
        # Through JSON, because the schema is strict: nothing the child said is coerced.
        self._report = Report.model_validate_json(json.dumps(document, default=str))
        if set(outcome.sections) != _ARTIFACTS:
            raise ResultError(f"its artifacts are {sorted(outcome.sections)}")
        contents = {name: (_SAFETENSORS, data) for name, data in outcome.sections.items()}
        for name, (_, data) in contents.items():
            _check_tensors(name, data)
        contents["spectrum.csv"] = ("text/csv; charset=utf-8", _spectrum_csv(self._report))
        for name, (media_type, data) in contents.items():
            self._keep(store, name, media_type, data)

    def _held_out(self, figures: dict[str, Any]) -> dict[str, Any] | None:
        if self._eval_probe is None:
            return None
        probe = {**_mapping(figures.get("probe")), **self._eval_probe}
        return {**figures, "probe": probe}

    def _keep(self, store: BlobStore, name: str, media_type: str, data: bytes) -> None:
        sha256 = hashlib.sha256(data).hexdigest()
        store.put(sha256, io.BytesIO(data))
        self._artifacts.append(
            Artifact(
                analysis_id=self._analysis_id,
                name=name,
                media_type=media_type,
                sha256=sha256,
                size_bytes=len(data),
            )
        )

    def finish(self, session: Session) -> None:
        """Write report and artifacts, and let the analysis succeed."""
        assert self._report is not None  # noqa: S101 - prepare comes first
        text = self._report.model_dump_json()
        n = self._report.probe.n
        session.add(
            tables.Report(
                analysis_id=self._analysis_id,
                document=text,
                sha256=hashlib.sha256(text.encode()).hexdigest(),
            )
        )
        session.add_all(self._artifacts)
        subjects.change_analysis(
            session,
            self._analysis_id,
            status=Status.SUCCEEDED,
            regime=self._report.verdict.regime,
            progress=Progress(stage="finished", done=n, total=n).model_dump(),
            finished_at=func.now(),
        )


def _identity(probe: Probe) -> dict[str, Any]:
    """Return what identifies a probe in the report."""
    return {
        "id": probe.id,
        "name": probe.name,
        "version": probe.version,
        "sha256": probe.sha256,
    }


def _mapping(value: object) -> dict[str, Any]:
    """Give what the child sent where an object belongs, or nothing, which then fails validation."""
    return value if isinstance(value, dict) else {}


def _check_tensors(name: str, data: bytes) -> None:
    """Refuse an artifact that is no safetensors file, or holds what is no number."""
    try:
        arrays = safetensors.numpy.load(data)
    except SafetensorError as error:
        raise ResultError(f"{name} is no safetensors file: {error}") from error
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ResultError(f"{name} holds NaN or infinity")


def _spectrum_csv(report: Report) -> bytes:
    """Write the per-eigenfunction figures as a table that spreadsheets read."""
    columns: dict[str, list[float] | None] = {
        "eigenvalue": report.spectrum.eigenvalues,
        "relative": report.spectrum.relative,
        "quality": report.projections.quality,
        "utilization": report.projections.utilization,
        "cumulative_quality": report.projections.cumulative_quality,
        "cumulative_utilization": report.projections.cumulative_utilization,
    }
    present = {name: values for name, values in columns.items() if values is not None}
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["k", *present])
    for k, row in enumerate(zip(*present.values(), strict=True), start=1):
        writer.writerow([k, *row])
    return text.getvalue().encode()
