"""The one file a child writes, and the suspicious reading of it.

    magic (8 bytes) · header length (u32, little-endian) · header (JSON) · sections, end to end

The header is `{"status": "succeeded", "header": {…}, "sections": [{"name", "offset", "length"}]}`
or `{"status": "failed", "failure": {…}}`. A child may have been taken over by the model it opened,
so its file is parsed as an attacker's: JSON and never pickle, exact lengths, finite numbers,
storable text.
"""

import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import JsonValue, ValidationError

from service.contract.failures import Failure, FailureCode
from workers.protocol.text import printable

MAX_HEADER_BYTES = 64 << 20
"""A report with tens of thousands of eigenvalues takes a few MB."""

MAX_FAILURE_BYTES = 1 << 18
MAX_SECTIONS = 16
MAX_MESSAGE = 4000

_MAGIC = b"PHIRES\x00\x01"
_PREFIX = struct.Struct("<8sI")
_SECTION_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")

_SUPERVISORS_CODES = frozenset(
    {
        FailureCode.LOST,
        FailureCode.TIME_LIMIT,
        FailureCode.POLICY_VIOLATION,
        FailureCode.QUARANTINED,
        FailureCode.STORED_FILE_DAMAGED,
    }
)
"""A child cannot claim these: they say what happened to it, and some lead to another attempt."""


class MalformedResultError(Exception):
    """A result file that no honest child writes."""


@dataclass(frozen=True)
class JobResult:
    """What a job found.

    Args:
        header: JSON with finite numbers.
        sections: Binary parts by name (lower-case letters, digits, `_`, `.`, `-`).
    """

    header: dict[str, JsonValue]
    sections: Mapping[str, bytes] = field(default_factory=dict)


def encode_result(result: JobResult) -> bytes:
    """Return the file of a job that succeeded.

    Raises:
        ValueError: If the header holds NaN or Inf.
    """
    offset = 0
    directory = []
    for name, content in result.sections.items():
        directory.append({"name": name, "offset": offset, "length": len(content)})
        offset += len(content)
    header = {"status": "succeeded", "header": result.header, "sections": directory}
    return b"".join([_encode_header(header), *result.sections.values()])


def encode_failure(failure: Failure) -> bytes:
    """Return the file of a job that failed."""
    shown = _presentable(failure).model_dump(mode="json")
    return _encode_header({"status": "failed", "failure": shown})


def parse_result(content: bytes) -> JobResult | Failure:
    """Read a child's file.

    Raises:
        MalformedResultError: If anything about it is not as `encode_result` or `encode_failure`
            leave it.
    """
    header, data = _split(content)
    match header:
        case {"status": "failed", "failure": dict(failure), **rest} if not rest:
            if len(content) > MAX_FAILURE_BYTES or data:
                raise MalformedResultError("a failure with far too much to say")
            return _parse_failure(failure)
        case {"status": "succeeded", "header": dict(inner), "sections": list(entries), **rest} if (
            not rest
        ):
            return JobResult(inner, _parse_sections(entries, data))
    raise MalformedResultError("the header is neither a success nor a failure")


def _encode_header(header: dict[str, Any]) -> bytes:
    encoded = json.dumps(header, allow_nan=False, ensure_ascii=False).encode()
    return _PREFIX.pack(_MAGIC, len(encoded)) + encoded


def _split(content: bytes) -> tuple[JsonValue, memoryview]:
    if len(content) < _PREFIX.size:
        raise MalformedResultError(f"the file has {len(content)} bytes")
    magic, length = _PREFIX.unpack_from(content)
    end = _PREFIX.size + length
    if magic != _MAGIC:
        raise MalformedResultError("the file does not begin with the magic bytes")
    if length > MAX_HEADER_BYTES or end > len(content):
        raise MalformedResultError(f"the header claims {length} of {len(content)} bytes")
    try:
        header = json.loads(
            content[_PREFIX.size : end], parse_constant=_refuse_constant, parse_float=_finite
        )
    except (ValueError, RecursionError) as error:
        raise MalformedResultError(f"the header is not JSON: {error}") from error
    _check_text(header)
    return header, memoryview(content)[end:]


def _parse_sections(entries: list[Any], data: memoryview) -> dict[str, bytes]:
    if len(entries) > MAX_SECTIONS:
        raise MalformedResultError(f"{len(entries)} sections")
    sections: dict[str, bytes] = {}
    position = 0
    for entry in entries:
        match entry:
            case {"name": str(name), "offset": int(offset), "length": int(length), **rest} if (
                not rest
            ):
                pass
            case _:
                raise MalformedResultError("a section is not {name, offset, length}")
        if name in sections or not _SECTION_NAME.fullmatch(name):
            raise MalformedResultError("a section's name is unusable or used twice")
        if offset != position or not 0 <= length <= len(data) - position:
            raise MalformedResultError(f"section {name} does not follow the one before it")
        sections[name] = bytes(data[offset : offset + length])
        position += length
    if position != len(data):
        raise MalformedResultError(f"{len(data) - position} bytes follow the last section")
    return sections


def _parse_failure(raw: dict[str, Any]) -> Failure:
    try:
        failure = Failure.model_validate(raw)
    except ValidationError as error:
        raise MalformedResultError(f"the failure has {error.error_count()} errors") from error
    if failure.code in _SUPERVISORS_CODES:
        raise MalformedResultError(f"a child cannot claim {failure.code}")
    return _presentable(failure)


def _presentable(failure: Failure) -> Failure:
    return failure.model_copy(
        update={
            "message": printable(failure.message, MAX_MESSAGE),
            "hint": None if failure.hint is None else printable(failure.hint, MAX_MESSAGE),
        }
    )


def _check_text(value: JsonValue) -> None:
    """Refuse strings that PostgreSQL or UTF-8 cannot hold, wherever they are."""
    waiting = [value]
    while waiting:
        match waiting.pop():
            case str(text) if "\0" in text or not _is_unicode(text):
                raise MalformedResultError("a string holds NUL or a lone surrogate")
            case list(items):
                waiting.extend(items)
            case dict(members):
                waiting.extend(members)
                waiting.extend(members.values())


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse_constant(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


def _finite(literal: str) -> float:
    value = float(literal)
    if not math.isfinite(value):
        raise ValueError("a number overflows")
    return value
