"""Why a job failed: the stable codes that clients build on, and the record that carries one."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, JsonValue


class FailureCode(StrEnum):
    """Why an analysis or a probe validation failed. Stable for `/v1`."""

    NOT_A_MODEL = "not_a_model"
    UNSAFE_ARCHIVE = "unsafe_archive"
    HEAD_NOT_FOUND = "head_not_found"
    INPUT_MISMATCH = "input_mismatch"
    NON_FINITE = "non_finite"
    TOO_FEW_SAMPLES = "too_few_samples"
    UNSUPPORTED_MODEL = "unsupported_model"
    POLICY_VIOLATION = "policy_violation"
    QUARANTINED = "quarantined"
    OUT_OF_MEMORY = "out_of_memory"
    TIME_LIMIT = "time_limit"
    CRASHED = "crashed"
    PROBE_UNREADABLE = "probe_unreadable"
    STORED_FILE_DAMAGED = "stored_file_damaged"
    STORAGE_UNAVAILABLE = "storage_unavailable"
    LOST = "lost"


MAX_TEXT = 4000
"""Characters of a message, and of a hint."""


class Failure(BaseModel):
    """What was wrong, what was expected, and what to do about it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    code: FailureCode
    message: str = Field(description="What was wrong and what was expected.", max_length=MAX_TEXT)
    hint: str | None = Field(default=None, description="What to do about it.", max_length=MAX_TEXT)
    detail: dict[str, JsonValue] = Field(
        default_factory=dict, description="Figures and names behind the message, by key."
    )
