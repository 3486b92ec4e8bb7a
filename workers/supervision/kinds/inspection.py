"""Inspecting a model: what the child is asked, and what is kept of its answer."""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from typing import BinaryIO
from uuid import UUID

from sqlalchemy import func
from sqlalchemy.orm import Session

from service.contract.inspection import Findings
from service.platform.settings import Settings
from service.platform.storage import BlobStore
from service.tables.inspections import Inspection, InspectionStatus
from service.tables.models import Model
from workers.protocol.errors import ResultError
from workers.protocol.requests import JobRequest
from workers.runner.outcome import Succeeded
from workers.supervision import subjects
from workers.supervision.stored import open_stored

# The largest honest one, with long names everywhere, has a tenth of this.
_MAX_DOCUMENT_CHARACTERS = 1 << 20


class InspectionWork:
    """One model to be looked into."""

    def __init__(self, inspection: Inspection, model: Model, settings: Settings) -> None:
        self._inspection_id = inspection.id
        self._request = inspection.request
        self._format = model.format
        self._sha256 = model.sha256
        self._settings = settings
        self._findings: Findings | None = None

    @classmethod
    def load(cls, session: Session, inspection_id: UUID, settings: Settings) -> "InspectionWork":
        """Read what there is to do."""
        inspection = session.get_one(Inspection, inspection_id)
        return cls(inspection, session.get_one(Model, inspection.model_id), settings)

    @property
    def digests(self) -> Mapping[str, str]:
        """SHA-256 of the model."""
        return {"model": self._sha256}

    def request(self) -> JobRequest:
        """Return what the child is asked to do."""
        return JobRequest(
            kind="inspect_model",
            warm_up="torch_export" if self._format == "torch_export" else None,
            arguments=self._request,
            threads=self._settings.threads_per_job,
        )

    def open_files(self, store: BlobStore, opened: ExitStack) -> list[BinaryIO]:
        """Open the model's bytes."""
        return [open_stored(store, self._sha256, "the model", opened)]

    def prepare(self, store: BlobStore, outcome: Succeeded) -> None:  # noqa: ARG002 - see Work
        """Validate the child's findings."""
        text = json.dumps(outcome.header)
        if len(text) > _MAX_DOCUMENT_CHARACTERS:
            raise ResultError(f"its findings are {len(text)} characters long")
        # Through JSON, because the schema is strict: nothing the child said is coerced.
        self._findings = Findings.model_validate_json(text)

    def finish(self, session: Session) -> None:
        """Write the findings, and let the inspection succeed."""
        assert self._findings is not None  # noqa: S101 - prepare comes first
        subjects.change_inspection(
            session,
            self._inspection_id,
            status=InspectionStatus.SUCCEEDED,
            document=self._findings.model_dump(mode="json"),
            finished_at=func.now(),
        )
