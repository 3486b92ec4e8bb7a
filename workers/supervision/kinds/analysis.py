"""Judging a model: what the child is asked, and how its answer becomes the report."""

import hashlib
import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from service.contract.failures import Failure
from service.contract.options import Options
from service.contract.probe_spec import ProbeSpec
from service.contract.progress import Progress
from service.platform.notifications import ANALYSES_CHANNEL
from service.platform.settings import Settings
from service.platform.storage import BlobStore
from service.report.document import Report
from service.tables import analyses as tables
from service.tables.analyses import UNFINISHED, Analysis, Artifact, Status
from service.tables.models import Model
from service.tables.probes import Probe
from workers.protocol.arguments import AnalysisArguments, ProbeLimits
from workers.protocol.requests import JobRequest
from workers.runner.outcome import Succeeded
from workers.supervision.kinds.artifacts import StoredArtifact, store_artifacts
from workers.supervision.kinds.kind import Inputs
from workers.supervision.kinds.stored import StoredFile

# The sums of all layers may take a quarter of a job's memory. Half may go to the probe's arrays,
# the rest is for the model's activations and the diagonalization of the widest layer.
_LAYERS_SHARE = 4


@dataclass(frozen=True)
class AnalysisResult:
    """A report, and the files beside it."""

    analysis_id: UUID
    report: Report
    artifacts: tuple[StoredArtifact, ...]

    def write(self, session: Session) -> None:
        """Write report and artifacts, and let the analysis succeed."""
        text = self.report.model_dump_json()
        n = self.report.probe.n
        session.add(
            tables.Report(
                analysis_id=self.analysis_id,
                document=text,
                sha256=hashlib.sha256(text.encode()).hexdigest(),
            )
        )
        session.add_all(
            Artifact(analysis_id=self.analysis_id, **asdict(each)) for each in self.artifacts
        )
        _change(
            session,
            self.analysis_id,
            status=Status.SUCCEEDED,
            regime=self.report.verdict.regime,
            progress=Progress(stage="finished", done=n, total=n).model_dump(),
            finished_at=func.now(),
        )


@dataclass(frozen=True)
class _GivenProbe:
    """A probe as the report names it, and how it is read."""

    identity: Mapping[str, Any]
    spec: ProbeSpec

    @classmethod
    def of(cls, probe: Probe) -> "_GivenProbe":
        identity = {
            "id": probe.id,
            "name": probe.name,
            "version": probe.version,
            "sha256": probe.sha256,
        }
        return cls(identity, ProbeSpec.model_validate(probe.spec))


@dataclass(frozen=True)
class AnalysisWork:
    """One model to be judged on one probe.

    What identifies model and probe in the report comes from the database, never from the child.

    Args:
        analysis_id: The analysis.
        options: As it was asked for.
        model: What identifies the model in the report.
        format: The model's.
        probe: The probe.
        eval_probe: The eval probe, if there is one.
        settings: The worker's.
    """

    analysis_id: UUID
    options: Options
    model: Mapping[str, Any]
    format: str
    probe: _GivenProbe
    eval_probe: _GivenProbe | None
    settings: Settings

    def open_inputs(self, store: BlobStore, opened: ExitStack) -> Inputs:
        """Open the bytes of the model and of its probes."""
        identities = {"model": self.model, "probe": self.probe.identity}
        if self.eval_probe is not None:
            identities["eval_probe"] = self.eval_probe.identity
        files = {
            key: StoredFile(key.replace("_", " "), str(each["name"]), str(each["sha256"]))
            for key, each in identities.items()
        }
        return Inputs(
            [file.open(store, opened) for file in files.values()],
            {key: file.sha256 for key, file in files.items()},
        )

    def request(self) -> JobRequest:
        """Return what the child is asked to do."""
        device = "cpu" if self.options.device == "cpu" else self.settings.device
        arguments = AnalysisArguments(
            spec=self.probe.spec,
            eval_spec=None if self.eval_probe is None else self.eval_probe.spec,
            limits=ProbeLimits(max_array_bytes=self.settings.max_probe_memory_bytes),
            layers_bytes=max(1, self.settings.job_memory_bytes // _LAYERS_SHARE),
            memory_bytes=self.settings.job_memory_bytes,
            result_bytes=self.settings.job_result_bytes,
            options=self.options,
            device=device,
        )
        return JobRequest(
            kind="analyse",
            device=device,
            warm_up="torch_export" if self.format == "torch_export" else None,
            arguments=arguments.model_dump(mode="json"),
            threads=self.settings.threads_per_job,
            seed=self.options.seed,
        )

    def check(
        self,
        answer: Succeeded,
        inputs: Inputs,  # noqa: ARG002 - see Work
        store: BlobStore,
    ) -> AnalysisResult:
        """Validate the child's figures, complete the report, and store the artifacts."""
        # Through JSON, because the schema is strict: nothing the child said is coerced.
        document = json.dumps(self._document(answer.header), default=str)
        report = Report.model_validate_json(document)
        artifacts = store_artifacts(store, answer.sections, report)
        return AnalysisResult(self.analysis_id, report, artifacts)

    def _document(self, header: Mapping[str, Any]) -> dict[str, Any]:
        """Return the report: the child's figures, and around them what is known here."""
        figures = dict(header)
        parameters = figures.pop("parameters", None)
        return {
            **figures,
            "schema_version": "1",
            "analysis_id": self.analysis_id,
            "created_at": datetime.now(UTC).isoformat(),
            "model": {**self.model, "parameters": parameters},
            "probe": {**_mapping(figures.get("probe")), **self.probe.identity},
            "held_out": self._held_out(_mapping(figures.get("held_out"))),
            "provenance": {
                **_mapping(figures.get("provenance")),
                "seed": self.options.seed,
                "options": self.options.model_dump(mode="json"),
            },
        }

    def _held_out(self, figures: dict[str, Any]) -> dict[str, Any] | None:
        if self.eval_probe is None:
            return None
        probe = {**_mapping(figures.get("probe")), **self.eval_probe.identity}
        return {**figures, "probe": probe}


class AnalysisKind:
    """Jobs that judge a model."""

    # The model, for its probes have been validated before it.
    blamed = "model"

    def load(self, session: Session, subject_id: UUID, settings: Settings) -> AnalysisWork:
        """Read what there is to do."""
        analysis = session.get_one(Analysis, subject_id)
        model = session.get_one(Model, analysis.model_id)
        identity = {
            "id": model.id,
            "name": model.name,
            "sha256": model.sha256,
            "run": model.run,
            "step": model.step,
        }
        eval_probe = None
        if analysis.eval_probe_id is not None:
            eval_probe = _GivenProbe.of(session.get_one(Probe, analysis.eval_probe_id))
        return AnalysisWork(
            analysis_id=analysis.id,
            options=Options.model_validate(analysis.options),
            model=identity,
            format=model.format,
            probe=_GivenProbe.of(session.get_one(Probe, analysis.probe_id)),
            eval_probe=eval_probe,
            settings=settings,
        )

    def started(self, session: Session, subject_id: UUID, attempt: int) -> None:
        """Say that it runs, and has since the first time that it did."""
        _change(
            session,
            subject_id,
            status=Status.RUNNING,
            attempts=attempt,
            started_at=func.coalesce(Analysis.started_at, func.now()),
            progress=Progress(stage="starting", done=0, total=0).model_dump(),
        )

    def progressed(self, session: Session, subject_id: UUID, progress: Progress) -> None:
        """Note how far the job has come."""
        _change(session, subject_id, progress=progress.model_dump())

    def requeued(self, session: Session, subject_id: UUID) -> None:
        """Say that it waits again."""
        progress = Progress(stage="queued", done=0, total=0).model_dump()
        _change(session, subject_id, status=Status.QUEUED, progress=progress)

    def failed(self, session: Session, subject_id: UUID, failure: Failure) -> None:
        """Write down why."""
        _change(
            session,
            subject_id,
            status=Status.FAILED,
            error=failure.model_dump(mode="json"),
            finished_at=func.now(),
        )


def _change(session: Session, analysis_id: UUID, **values: Any) -> None:
    """Change an unfinished analysis, and wake whoever waits for it."""
    session.execute(
        update(Analysis)
        .where(Analysis.id == analysis_id, Analysis.status.in_(UNFINISHED))
        .values(**values)
    )
    session.execute(select(func.pg_notify(ANALYSES_CHANNEL, str(analysis_id))))


def _mapping(value: object) -> dict[str, Any]:
    """Give what the child sent where an object belongs, or nothing, which then fails validation."""
    return value if isinstance(value, dict) else {}
