"""A child's result file: what it carries, and every way in which it could lie."""

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.contract.failures import Failure, FailureCode
from workers.protocol.result import (
    JobResult,
    MalformedResultError,
    encode_failure,
    encode_result,
    parse_result,
)

numbers = st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=20,
)
names = st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,20}", fullmatch=True)


def forge(header: str | bytes, data: bytes = b"", *, length: int | None = None) -> bytes:
    encoded = header.encode() if isinstance(header, str) else header
    return (
        struct.pack("<8sI", b"PHIRES\x00\x01", len(encoded) if length is None else length)
        + encoded
        + data
    )


def forge_sections(sections: Any, data: bytes = b"") -> bytes:
    return forge(json.dumps({"status": "succeeded", "header": {}, "sections": sections}), data)


@given(
    st.dictionaries(text, json_values, max_size=4),
    st.dictionaries(names, st.binary(max_size=50), max_size=4),
)
def test_what_is_encoded_is_read_back(header: dict[str, Any], sections: dict[str, bytes]) -> None:
    result = JobResult(header, sections)
    assert parse_result(encode_result(result)) == result


def test_failure_is_read_back_with_its_text_escaped() -> None:
    failure = Failure(code=FailureCode.INPUT_MISMATCH, message="a\x1b\0b", detail={"want": [3]})
    read = parse_result(encode_failure(failure))
    assert read == failure.model_copy(update={"message": r"a\x1b\x00b"})


def test_result_with_nan_is_not_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode_result(JobResult({"d_lr": float("nan")}))


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_cleanly(content: bytes) -> None:
    with pytest.raises(MalformedResultError):
        parse_result(content)


@given(st.data())
def test_any_damage_is_refused_or_harmless(data: st.DataObject) -> None:
    whole = encode_result(JobResult({"a": [1.5, "b"]}, {"s": b"12345"}))
    content = bytearray(whole)
    at = data.draw(st.integers(0, len(whole) - 1))
    content[at] = data.draw(st.integers(0, 255))
    try:
        parsed = parse_result(bytes(content))
    except MalformedResultError:
        return
    assert isinstance(parsed, JobResult)
    assert {len(section) for section in parsed.sections.values()} == {5}


@given(st.integers(0, 60))
def test_truncated_file_is_refused(kept: int) -> None:
    whole = encode_result(JobResult({"a": 1}, {"s": b"12345"}))
    with pytest.raises(MalformedResultError):
        parse_result(whole[:kept])


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(forge("{}", length=2**32 - 1), id="header longer than the file"),
        pytest.param(forge("[" * 200_000), id="deep nesting"),
        pytest.param(forge('{"a":' * 100_000), id="deep objects"),
        pytest.param(forge("9" * 10_000), id="endless integer"),
        pytest.param(forge(b"\xff\xfe{}"), id="not UTF-8"),
        pytest.param(forge("[]"), id="not an object"),
        pytest.param(forge('{"status": "succeeded"}'), id="missing keys"),
        pytest.param(
            forge('{"status": "succeeded", "header": {}, "sections": [], "more": 1}'), id="more"
        ),
        *(
            pytest.param(
                forge(f'{{"status": "succeeded", "header": {{"a": {literal}}}, "sections": []}}'),
                id=literal,
            )
            for literal in ("NaN", "Infinity", "-Infinity", "1e999", r'"\u0000"', r'"\ud800"')
        ),
        pytest.param(
            forge(r'{"status": "succeeded", "header": {"a": [{"\u0000": 1}]}, "sections": []}'),
            id="NUL in a key",
        ),
        pytest.param(forge_sections([{"name": "a", "offset": 0, "length": 5}]), id="too long"),
        pytest.param(forge_sections([{"name": "a", "offset": 0, "length": -1}]), id="negative"),
        pytest.param(forge_sections([{"name": "../a", "offset": 0, "length": 0}]), id="path"),
        pytest.param(
            forge_sections([{"name": "a", "offset": "0", "length": 0}]), id="not a number"
        ),
        pytest.param(
            forge_sections([{"name": "a", "offset": 0, "length": 2}] * 2, b"abcd"), id="overlap"
        ),
        pytest.param(
            forge_sections(
                [{"name": "a", "offset": 0, "length": 1}, {"name": "a", "offset": 1, "length": 1}],
                b"ab",
            ),
            id="same name twice",
        ),
        pytest.param(forge_sections([], b"junk"), id="trailing bytes"),
        pytest.param(forge_sections([{"name": "a"}] * 1000), id="too many"),
        pytest.param(
            forge('{"status": "failed", "failure": {"code": "nonsense", "message": ""}}'),
            id="unknown code",
        ),
        pytest.param(
            forge('{"status": "failed", "failure": {"code": "crashed", "message": ""}}', b"junk"),
            id="failure with data",
        ),
        pytest.param(
            forge(
                json.dumps(
                    {
                        "status": "failed",
                        "failure": {
                            "code": "crashed",
                            "message": "",
                            "detail": {"a": "x" * (1 << 18)},
                        },
                    }
                )
            ),
            id="failure that never stops",
        ),
        *(
            pytest.param(
                forge(f'{{"status": "failed", "failure": {{"code": "{code}", "message": ""}}}}'),
                id=f"claims {code}",
            )
            for code in ("lost", "time_limit", "policy_violation", "quarantined")
        ),
    ],
)
def test_lie_is_refused(content: bytes) -> None:
    with pytest.raises(MalformedResultError):
        parse_result(content)
