"""Quarantines and security events, as clients see them."""

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from service.contract.security_events import SecurityEvent
from service.http.fields import Sha256
from service.http.pagination import PageQuery
from service.tables.jobs import JobKind


class QuarantineRead(BaseModel):
    """A file that no job opens until an operator releases it."""

    model_config = ConfigDict(from_attributes=True)

    sha256: str = Field(description="Of the model's or the probe's file, whatever it is named.")
    created_at: datetime
    strikes: int = Field(description="Events that count against it since its last release.")
    reason: str = Field(description="Which events, and how many of each.")


class QuarantineQuery(PageQuery):
    """Which quarantines to list."""

    model_config = ConfigDict(extra="forbid")


class SecurityEventRead(BaseModel):
    """Something that an operator has to know of."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    created_at: datetime
    event: SecurityEvent
    sha256: str | None = Field(description="The file that is blamed; null if none is.")
    digests: dict[str, str] = Field(description="SHA-256 of the job's files, by what they are.")
    job_id: UUID | None = Field(description="Null for what no job brought about, as a release.")
    kind: JobKind | None = Field(description="What the job was to do.")
    subject_id: UUID | None = Field(description="The analysis, inspection or probe it worked on.")
    attempt: int | None
    worker: str | None = Field(description="The worker process, as `host:pid`.")
    message: str


class SecurityEventQuery(PageQuery):
    """Which security events to list."""

    model_config = ConfigDict(extra="forbid")

    event: SecurityEvent | None = None
    sha256: Sha256 | None = Field(default=None, description="The file that is blamed.")
