"""Inspecting a model: what the child is asked, and what is kept of its answer."""

import json
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pydantic import JsonValue
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from service.contract.failures import Failure
from service.contract.inspection import Findings
from service.contract.progress import Progress
from service.platform.notifications import ANALYSES_CHANNEL
from service.platform.settings import Settings
from service.platform.storage import BlobStore
from service.tables.inspections import Inspection, InspectionStatus
from service.tables.models import Model
from workers.protocol.errors import ResultError
from workers.protocol.requests import JobRequest
from workers.runner.outcome import Succeeded
from workers.supervision.kinds.kind import Inputs
from workers.supervision.kinds.stored import StoredFile

# The largest honest one, with long names everywhere, has a tenth of this.
_MAX_DOCUMENT_CHARACTERS = 1 << 20


@dataclass(frozen=True)
class InspectionResult:
    """What was found in a model."""

    inspection_id: UUID
    findings: Findings

    def write(self, session: Session) -> None:
        """Write the findings, and let the inspection succeed."""
        _change(
            session,
            self.inspection_id,
            status=InspectionStatus.SUCCEEDED,
            document=self.findings.model_dump(mode="json"),
            finished_at=func.now(),
        )


@dataclass(frozen=True)
class InspectionWork:
    """One model to be looked into.

    Args:
        inspection_id: The inspection.
        question: What the child is asked, as it was stored.
        model: The model's file.
        format: The model's.
        settings: The worker's.
    """

    inspection_id: UUID
    question: dict[str, JsonValue]
    model: StoredFile
    format: str
    settings: Settings

    def open_inputs(self, store: BlobStore, opened: ExitStack) -> Inputs:
        """Open the model's bytes."""
        return Inputs([self.model.open(store, opened)], {"model": self.model.sha256})

    def request(self) -> JobRequest:
        """Return what the child is asked to do."""
        return JobRequest(
            kind="inspect_model",
            warm_up="torch_export" if self.format == "torch_export" else None,
            arguments=self.question,
            threads=self.settings.threads_per_job,
        )

    def check(
        self,
        answer: Succeeded,
        inputs: Inputs,  # noqa: ARG002 - see Work
        store: BlobStore,  # noqa: ARG002 - see Work
    ) -> InspectionResult:
        """Validate the child's findings."""
        text = json.dumps(answer.header)
        if len(text) > _MAX_DOCUMENT_CHARACTERS:
            raise ResultError(f"its findings are {len(text)} characters long")
        # Through JSON, because the schema is strict: nothing the child said is coerced.
        return InspectionResult(self.inspection_id, Findings.model_validate_json(text))


class InspectionKind:
    """Jobs that look into a model."""

    blamed = "model"

    def load(self, session: Session, subject_id: UUID, settings: Settings) -> InspectionWork:
        """Read what there is to do."""
        inspection = session.get_one(Inspection, subject_id)
        model = session.get_one(Model, inspection.model_id)
        file = StoredFile("model", model.name, model.sha256)
        return InspectionWork(inspection.id, inspection.request, file, model.format, settings)

    def started(self, session: Session, subject_id: UUID, attempt: int) -> None:  # noqa: ARG002 - see Kind
        """Say that it runs."""
        _change(session, subject_id, status=InspectionStatus.RUNNING)

    def progressed(self, session: Session, subject_id: UUID, progress: Progress) -> None:
        """Do nothing: it takes a second, and shows no progress."""

    def requeued(self, session: Session, subject_id: UUID) -> None:
        """Say that it waits again."""
        _change(session, subject_id, status=InspectionStatus.QUEUED)

    def failed(self, session: Session, subject_id: UUID, failure: Failure) -> None:
        """Write down why."""
        _change(
            session,
            subject_id,
            status=InspectionStatus.FAILED,
            error=failure.model_dump(mode="json"),
            finished_at=func.now(),
        )


def _change(session: Session, inspection_id: UUID, **values: Any) -> None:
    """Change an inspection, and wake whoever waits for it."""
    session.execute(update(Inspection).where(Inspection.id == inspection_id).values(**values))
    session.execute(select(func.pg_notify(ANALYSES_CHANNEL, str(inspection_id))))
