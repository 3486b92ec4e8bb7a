"""Models, as clients see them."""

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from service.contract.archives import ModelFormat
from service.http.fields import JsonText, Label, Sha256, Sought
from service.http.pagination import PageQuery


class ModelRead(BaseModel):
    """An uploaded model."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    name: str
    run: str | None = Field(description="The training run it is a checkpoint of.")
    step: int | None = Field(description="The step of that run.")
    sha256: str
    size_bytes: int
    format: ModelFormat
    metadata: dict[str, JsonValue] = Field(validation_alias="metadata_")
    created_at: datetime
    notice: str | None = Field(
        default=None,
        description="What of this upload was not kept, and what to do about it: metadata that "
        "came with bytes that were there already. null in all other answers.",
    )


class ModelFields(BaseModel):
    """What is said of a model at upload, as form fields or query parameters."""

    model_config = ConfigDict(extra="forbid")

    name: Label
    run: Label | None = None
    step: int | None = Field(default=None, ge=0, lt=2**63)
    metadata: JsonText = Field(
        default={}, validate_default=False, description="A JSON object, kept and given back."
    )


class ModelQuery(PageQuery):
    """Which models to list."""

    model_config = ConfigDict(extra="forbid")

    name: Sought | None = None
    run: Sought | None = None
    sha256: Sha256 | None = None
