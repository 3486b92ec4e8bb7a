"""Analyses, as clients see them."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from service.contract.failures import Failure
from service.contract.options import Options
from service.contract.progress import Progress
from service.http.pagination import PageQuery
from service.tables.analyses import Status

Regime = Literal["MF", "EF", "undetermined"]


class AnalysisCreate(BaseModel):
    """A request to judge a model on a probe."""

    model_config = ConfigDict(extra="forbid")

    model: UUID = Field(description="Id of the model.")
    probe: str = Field(
        min_length=1, max_length=200, description="Id, name (its newest version) or name@version."
    )
    options: Options = Field(default_factory=Options)
    priority: Literal["low", "normal", "high"] = "normal"
    webhook_url: None = Field(default=None, description="Webhooks: not in this version.")


class Links(BaseModel):
    """Addresses of what belongs to an analysis."""

    self: str
    events: str
    report: str
    artifacts: str
    charts: str
    model: str
    probe: str


class AnalysisRead(BaseModel):
    """One model judged on one probe."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    status: Status
    model_id: UUID
    probe_id: UUID
    eval_probe_id: UUID | None
    options: Options
    priority: str
    progress: Progress
    attempts: int = Field(description="How often a worker has taken it up.")
    regime: Regime | None = Field(description="The verdict; null until it has succeeded.")
    error: Failure | None = Field(description="Why it failed.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    links: Links


class ArtifactRead(BaseModel):
    """A file that came out of an analysis."""

    name: str
    media_type: str
    size_bytes: int
    sha256: str
    href: str


class AnalysisQuery(PageQuery):
    """Which analyses to list."""

    model_config = ConfigDict(extra="forbid")

    status: Status | None = None
    model: UUID | None = None
    probe: str | None = Field(
        default=None, min_length=1, max_length=200, description="Id, name or name@version."
    )
    regime: Regime | None = None
