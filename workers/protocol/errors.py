"""What a job can end with, apart from success."""

from pydantic import JsonValue

from service.contract.failures import MAX_TEXT, Failure, FailureCode


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
        self.failure = Failure(
            code=code, message=_cut(message), hint=hint and _cut(hint), detail=detail or {}
        )


def _cut(text: str) -> str:
    """Cut a text to what is shown: names that a file holds can be of any length."""
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"


# How torch's allocators, the C++ library and the kernel word it.
_NO_MEMORY = (
    *("allocate memory", "not enough memory: you tried", "CUDA out of memory", "std::bad_alloc"),
    "std::bad_array_new_length",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory was asked for that is not there, or may not be had."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError | OSError)
        and any(phrase in str(error) for phrase in _NO_MEMORY)
    )


class ResultError(ValueError):
    """A child left a result that no honest child writes; the text says how, as `its … are …`."""
