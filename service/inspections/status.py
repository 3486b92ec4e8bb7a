"""Where an inspection can stand."""

from enum import StrEnum


class InspectionStatus(StrEnum):
    """Where an inspection stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
