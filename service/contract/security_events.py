"""What an operator has to know of, apart from what a job's owner is told."""

from enum import StrEnum


class SecurityEvent(StrEnum):
    """What happened. Stable for `/v1`."""

    POLICY_VIOLATION = "policy_violation"
    """A job's process tried what no job does, and was ended."""
    UNTRUSTED_RESULT = "untrusted_result"
    """It left a result that no honest job writes."""
    CRASHED = "crashed"
    """It ended by a crash, or with an exit status of its own: an exploit that fails looks so."""
    NOT_CONFINED = "not_confined"
    """The worker could not wall it in, and so did not let it begin."""
    QUARANTINED = "quarantined"
    """A file has done so too often, and is not opened any more."""
    RELEASED = "released"
    """An operator has let it run again."""


STRIKES = (
    SecurityEvent.POLICY_VIOLATION,
    SecurityEvent.UNTRUSTED_RESULT,
    SecurityEvent.CRASHED,
)
"""Those that count against a file. A worker that cannot build its walls is no file's fault."""
