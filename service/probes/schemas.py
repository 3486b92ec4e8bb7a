"""Probes, as clients see them."""

import re
from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Json

from service.contract.failures import Failure
from service.contract.probe_spec import ProbeInput, ProbeSpec
from service.http.fields import Sought
from service.http.pagination import PageQuery
from service.tables.probes import ProbeStatus

PROBE_NAME = "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"


def _check_name(name: str) -> str:
    if re.fullmatch(PROBE_NAME, name) is None:
        raise ValueError(
            "must be 1 to 100 letters, digits, dots, dashes and underscores, and begin with a "
            "letter or digit"
        )
    try:
        UUID(name)
    except ValueError:
        return name
    raise ValueError("must not look like an id")


ProbeName = Annotated[
    str, AfterValidator(_check_name), Field(json_schema_extra={"pattern": PROBE_NAME})
]


class ProbeRead(BaseModel):
    """A reference dataset."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    name: str
    version: int = Field(description="`name@version` names this probe, `name` alone the newest.")
    sha256: str | None
    size_bytes: int | None
    uri: str | None
    spec: ProbeSpec = Field(
        description="How its bytes are read; what the file alone decides is written back."
    )
    status: ProbeStatus = Field(description="`validating` until a worker has read it.")
    n: int | None = Field(description="Samples.")
    input_shape: list[int] | None = Field(
        description="Shape of one sample of the first input: as stored, or after the transform "
        "that the spec gives."
    )
    inputs: list[ProbeInput] | None = Field(
        description="The inputs that the spec names, or the arrays that can be some; which "
        "argument of a model gets which, a report says. null for a probe that was validated before "
        "a model could have several."
    )
    classes: int | None = Field(
        description="Number of classes or labels; null for values, without targets, and where only "
        "a model decides it, as for labels 1 … K."
    )
    class_counts: list[int] | None = Field(
        description="Labels of each class: one a sample, or one for each position of each sample."
    )
    created_at: datetime
    error: Failure | None = Field(description="Why validation failed.")


class ProbeFields(BaseModel):
    """What is said of a probe at upload, as form fields."""

    model_config = ConfigDict(extra="forbid")

    name: ProbeName
    spec: Json[ProbeSpec] = Field(default_factory=ProbeSpec)


class ProbeByUri(BaseModel):
    """A probe to be fetched by the worker."""

    model_config = ConfigDict(extra="forbid")

    name: ProbeName
    uri: str = Field(
        max_length=2000,
        description="`s3://`, `gs://`, `az://` or `file://`, below a prefix that the operator "
        "allows. What lies there is copied once, so that the probe never changes.",
    )
    spec: ProbeSpec = Field(default_factory=ProbeSpec)


class ProbeQuery(PageQuery):
    """Which probes to list."""

    model_config = ConfigDict(extra="forbid")

    name: Sought | None = None
    status: ProbeStatus | None = None
