"""What a job can end with, apart from success."""

from pydantic import JsonValue

from service.failures import Failure, FailureCode


class JobError(Exception):
    """A job cannot succeed, for a reason its owner can act on.

    Args:
        code: The stable code clients see.
        message: What was wrong and what was expected.
        hint: What to do about it.
        detail: Figures and names behind the message.
    """

    def __init__(
        self,
        code: FailureCode,
        message: str,
        *,
        hint: str | None = None,
        detail: dict[str, JsonValue] | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.failure = Failure(code=code, message=message, hint=hint, detail=detail or {})


class ResultError(ValueError):
    """A child left a result that no honest child writes; the text says how, as `its … are …`."""
