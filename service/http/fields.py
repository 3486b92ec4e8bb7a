"""Types of fields that several resources share."""

import json
import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field, Json, StringConstraints

MAX_JSON_CHARACTERS = 65_536
_SHA256 = "^[0-9a-f]{64}$"


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must not hold control characters")
    return text


def _digest(text: str) -> str:
    if not re.fullmatch(_SHA256, text):
        raise ValueError("must be a SHA-256: 64 hexadecimal digits, in lower case")
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

Sought = Annotated[str, Field(pattern=r"^[^\x00]*$")]
"""A name to look for; none that is kept holds NUL."""

JsonText = Annotated[Json[dict[str, Any]], AfterValidator(_storable)]
"""A JSON object, arriving as text in a form field or query parameter."""

Sha256 = Annotated[str, AfterValidator(_digest), Field(json_schema_extra={"pattern": _SHA256})]
"""The digest by which a file is known."""
