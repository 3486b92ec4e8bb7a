"""Inspections, as clients see them."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from service.contract.archives import ModelFormat
from service.contract.failures import Failure
from service.contract.inspection import INPUT_PATTERN, Findings, InputShape, InspectionRequest
from service.tables.inspections import InspectionStatus

MAX_WAIT_SECONDS = 60
_MAX_INPUTS = 16


def _check_input(text: str) -> str:
    InputShape.parse(text)
    return text


_Input = Annotated[
    str, AfterValidator(_check_input), Field(json_schema_extra={"pattern": INPUT_PATTERN})
]


class InspectionQuery(BaseModel):
    """How a model is to be inspected."""

    model_config = ConfigDict(extra="forbid")

    wait: float = Field(
        default=30,
        ge=0,
        le=MAX_WAIT_SECONDS,
        description="Seconds to wait for the inspection to end.",
    )
    input: list[_Input] = Field(
        default=[],
        max_length=_MAX_INPUTS,
        description="What one sample of an input looks like, where that cannot be found out: "
        "`3x32x32`, or `128:int64`. Without the batch axis; float32 unless said otherwise. "
        "Once for each input, in the order of the model's arguments.",
    )
    probe: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="Take the input's shape, and the dtype of its transform, from this probe "
        "(id, name or name@version). Its data are not read.",
    )


class InspectionRead(BaseModel):
    """A look into a model, made without data."""

    id: UUID
    model_id: UUID
    format: ModelFormat
    status: InspectionStatus
    request: InspectionRequest
    findings: Findings | None = Field(description="null until it has succeeded.")
    error: Failure | None = Field(
        description="Why it failed. `input_mismatch`: no input was found that the model takes; say "
        "what one looks like with `input`."
    )
    created_at: datetime
    finished_at: datetime | None
