"""What pydantic finds wrong with a request, in words and names that a client knows."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, Field

_SHOWN = 80
# Parts of a location that pydantic adds for its own types: the branches of a union and wrappers.
_KEY = re.compile(r"[a-z][a-z0-9_]*")
_TYPES = frozenset({"int", "str", "float", "bool", "dict", "list", "none", "bytes", "nullable"})
# The last part of a location is the client's own, whatever it looks like.
_NAMING = frozenset({"missing", "extra_forbidden"})

_WHOLE, _NUMBER, _TEXT = "a whole number", "a number", "a text"
_OBJECT, _LIST, _TRUTH, _ID = "a JSON object", "a list", "true or false", "an id (a UUID)"
_EXPECTED: Mapping[str, str] = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), _WHOLE),
    **dict.fromkeys(("float_type", "float_parsing"), _NUMBER),
    **dict.fromkeys(("string_type", "string_sub_type", "string_unicode"), _TEXT),
    **dict.fromkeys(("dict_type", "mapping_type", "model_type", "model_attributes_type"), _OBJECT),
    **dict.fromkeys(("list_type", "tuple_type", "iterable_type", "set_type"), _LIST),
    **dict.fromkeys(("bool_type", "bool_parsing"), _TRUTH),
    **dict.fromkeys(("uuid_type", "uuid_parsing", "uuid_version"), _ID),
    "none_required": "null",
    "finite_number": "a finite number",
    "json_type": "a text that holds JSON",
    "json_invalid": "JSON ({error})",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
    "too_short": "at least {min_length} items",
    "too_long": "at most {max_length} items",
    "string_pattern_mismatch": "a text of the form {pattern}",
}
_OTHER = "something else; see the schema at /openapi.json"
# What says that another branch of a union was meant, where a branch has more to say.
_MISSED = frozenset({"literal_error", "enum", "none_required"}) | {
    kind for kind in _EXPECTED if kind.endswith("_type")
}


class ValidationIssue(BaseModel):
    """One thing wrong with a request."""

    location: str = Field(description="Where, as `body.options.batch_size`.")
    message: str


def issues_of(entries: Iterable[Mapping[str, Any]]) -> list[ValidationIssue]:
    """Say of each place that is wrong what was expected there, and what came.

    Args:
        entries: pydantic's. Of a value that may be one of several things it has one for each.
    """
    by_place: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for entry in entries:
        by_place.setdefault(_place(entry), []).append(entry)
    return [
        ValidationIssue(location=".".join(place), message=_message(found))
        for place, found in by_place.items()
        if not _is_explained_further_in(place, found, by_place)
    ]


def _place(entry: Mapping[str, Any]) -> tuple[str, ...]:
    *outer, last = entry["loc"] or ("",)
    if entry["type"] == "json_invalid" and isinstance(last, int):
        last = ""  # the character at which it ends to be JSON, which is no place in a document
    parts = [part for part in outer if _is_known(part)]
    if entry["type"] in _NAMING or _is_known(last):
        parts.append(last)
    return tuple(str(part) for part in parts if part != "")


def _is_known(part: int | str) -> bool:
    """Return whether a client would know it: a key, or a place in a list."""
    return isinstance(part, int) or bool(_KEY.fullmatch(part) and part not in _TYPES)


def _is_explained_further_in(
    place: tuple[str, ...],
    found: Sequence[Mapping[str, Any]],
    others: Iterable[tuple[str, ...]],
) -> bool:
    """Return whether a value was of the right kind, but for what is in it."""
    deeper = any(other[: len(place)] == place and len(other) > len(place) for other in others)
    return deeper and all(entry["type"] in _MISSED for entry in found)


def _message(found: Sequence[Mapping[str, Any]]) -> str:
    kinds = {entry["type"] for entry in found}
    if "missing" in kinds:
        return "is missing"
    if "extra_forbidden" in kinds:
        return "unknown key; check its spelling against the schema at /openapi.json"
    for entry in found:
        if entry["type"] in {"value_error", "assertion_error"}:
            said = re.sub(r"^(Value|Assertion) error, ", "", str(entry["msg"]))
            value = repr(entry.get("input"))
            if value in said:
                return said.replace(value, _short(value))
            # Of a document it is said what in it is wrong.
            is_document = isinstance(entry.get("input"), dict | list)
            return said if is_document else f"{said}{_got(entry)}"
    expected = dict.fromkeys(_expected(entry) for entry in found)
    return f"expected {' or '.join(expected)}{_got(found[0])}"


def _expected(entry: Mapping[str, Any]) -> str:
    limits = {
        name: int(limit) if isinstance(limit, float) and limit.is_integer() else limit
        for name, limit in entry.get("ctx", {}).items()
    }
    text = _EXPECTED.get(entry["type"], _OTHER).format_map(limits)
    if text.startswith("at least 1 ") and text.endswith("s"):
        return text[:-1]
    return text


def _got(entry: Mapping[str, Any]) -> str:
    value = entry.get("input")
    if isinstance(value, dict | list):
        # Its parts may be right, and what is said here is of the whole.
        return f"; got {_OBJECT if isinstance(value, dict) else _LIST} of {len(value)}"
    text = json.dumps(value) if value is None or isinstance(value, bool) else repr(value)
    return f"; got {_short(text)}"


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
