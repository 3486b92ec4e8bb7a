"""Types of fields that several resources share."""

import json
from typing import Annotated, Any

from pydantic import AfterValidator, Json, StringConstraints

MAX_JSON_CHARACTERS = 65_536


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must not hold control characters")
    return text


def _storable(value: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(value)
    if len(text) > MAX_JSON_CHARACTERS:
        raise ValueError(
            f"must be at most {MAX_JSON_CHARACTERS} characters of JSON, is {len(text)}"
        )
    if "\\u0000" in text:
        raise ValueError("must not hold NUL characters")
    if "NaN" in text or "Infinity" in text:
        json.loads(text, parse_constant=_refuse_constant)
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"must not hold {name}, which is no JSON")


Label = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200, strip_whitespace=True),
    AfterValidator(_printable),
]
"""A name that people give: one line of up to 200 characters."""

JsonText = Annotated[Json[dict[str, Any]], AfterValidator(_storable)]
"""A JSON object, arriving as text in a form field or query parameter."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""The digest by which a file is known."""
