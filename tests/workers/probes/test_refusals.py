"""Every way in which a probe is unreadable, and the words that say so."""

from __future__ import annotations

import io
import json
import pickle
import re
import struct
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.contract.failures import Failure, FailureCode
from service.contract.probe_spec import ProbeSpec
from workers.probes.probe import inspect_probe
from workers.protocol.arguments import ProbeLimits
from workers.protocol.errors import JobError

if TYPE_CHECKING:
    from tests.workers.probes.conftest import Save

GOOD = np.arange(12, dtype=np.float32).reshape(6, 2)


def refusal(
    file: io.BytesIO | bytes, spec: dict[str, object] | None = None, **limits: int
) -> Failure:
    stream = io.BytesIO(file) if isinstance(file, bytes) else file
    with pytest.raises(JobError) as caught:
        inspect_probe(stream, ProbeSpec.model_validate(spec or {}), ProbeLimits(**limits))
    return caught.value.failure


def unreadable(
    file: io.BytesIO | bytes, spec: dict[str, object] | None = None, **limits: int
) -> str:
    failure = refusal(file, spec, **limits)
    assert failure.code == FailureCode.PROBE_UNREADABLE
    assert failure.hint
    return failure.message


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def zipped(*members: tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def raw_safetensors(header: object, data: bytes = b"") -> bytes:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + data


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty (0 bytes)"),
        (npy(GOOD), "a single numpy array"),
        (pickle.dumps({"x": [1]}), "a Python pickle, which is never read"),
        (b"PAR1....", "damaged"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"a sentence, and\nanother\n"[:15], "a text file"),
        (b'{"x": [1, 2]}\n', "a text file"),
        (b"\0" * 257 + b"ustar\0", "archive is damaged"),
        (b"\x00\x01\x02\x03", "no known kind (it begins with the bytes 00 01 02 03)"),
        (zipped(("model/data.pkl", b"")), "found 'model/data.pkl'"),
        (zipped(), "not an npz"),
    ],
)
def test_file_of_another_kind_is_named(content: bytes, words: str) -> None:
    assert words in unreadable(content)


WIDE = [f"column_{place}" for place in range(900)]


def _wide(*rows: list[str]) -> bytes:
    lines = [[*WIDE, "label"], *([*row, str(place)] for place, row in enumerate(rows))]
    return "\n".join(",".join(line) for line in lines).encode() + b"\n"


@pytest.mark.parametrize(
    ("content", "spec", "words"),
    [
        (_wide(["a"] * 900, ["b"] * 900), {}, 'Set "exclude": ["column_0", '),
        (_wide(["1"] * 900, [""] * 900), {}, 'set "exclude": ["column_0", '),
        (_wide(["1"] * 900), {"columns": [*WIDE, "label"]}, 'Set "columns": ["column_0", '),
    ],
)
def test_hints_about_many_columns_name_as_many_as_there_is_room_for(
    content: bytes, spec: dict[str, object], words: str
) -> None:
    failure = refusal(content, spec)
    assert failure.code == FailureCode.PROBE_UNREADABLE
    assert words in (failure.hint or "")
    assert re.search(r", … and \d+ more\]", failure.hint or "")


def test_a_text_of_any_length_can_be_told() -> None:
    error = JobError(FailureCode.PROBE_UNREADABLE, "a" * 9000, hint="b" * 9000)
    assert error.failure.message == "a" * 3999 + "…"
    assert error.failure.hint == "b" * 3999 + "…"


def test_format_must_be_the_one_declared(npz: Save) -> None:
    message = unreadable(npz(x=GOOD), {"format": "safetensors"})
    assert message == "The probe file is npz, but its spec says 'safetensors'."


def test_missing_arrays_are_named_with_what_there_is(save: Save) -> None:
    file = save(a=GOOD, b=np.arange(6))
    for role in ("input", "target"):
        message = unreadable(file, {role: "z"})
        assert f"'z' as {role}" in message
        assert "'a' float32 (6, 2)" in message
        assert "'b' int64 (6,)" in message


def test_probe_without_possible_inputs_is_refused(save: Save) -> None:
    assert "'y' int64 (6,)" in unreadable(save(y=np.arange(6)))


def test_lengths_must_match(save: Save) -> None:
    failure = refusal(save(x=GOOD, y=np.arange(5)))
    assert failure.message == (
        "'x' holds 6 samples but 'y' holds 5 targets; expected equal numbers."
    )
    assert failure.detail == {"inputs": 6, "targets": 5}


def test_probe_without_samples_is_refused(save: Save) -> None:
    failure = refusal(save(x=np.zeros((0, 3), np.float32), y=np.zeros(0, np.int64)))
    assert failure.code == FailureCode.TOO_FEW_SAMPLES
    assert "(0, 3)" in failure.message


@pytest.mark.parametrize("shape", [(6, 0), ()])
def test_inputs_need_features(npz: Save, shape: tuple[int, ...]) -> None:
    assert "(n, features)" in unreadable(npz(x=np.zeros(shape)), {"input": "x"})


@pytest.mark.parametrize(
    ("targets", "spec", "words"),
    [
        ([0, 1, -1, 0, 0, 0], {}, "label -1 in row 2 of 'y' is negative"),
        ([0, 1, 2, 3, 10**9, 0], {}, "1000000000 in row 4 of 'y' would make 1,000,000,001 classes"),
        ([0, 1, 0.5, 0, 1, 0], {"task": "classification"}, "0.5 in row 2 of 'y' is not a whole"),
        ([[0.0, 1]] * 5 + [[0.5, 1]], {"task": "classification"}, "nor one-hot"),
        ([[[0.5]]] * 6, {}, "(6, 1, 1) and dtype float64"),
        ([[[0]]] * 6, {"task": "regression"}, "(6, 1, 1) and dtype int64"),
        ([[[0, 1], [2, -1]]] * 6, {}, "label -1 in row 0, position 1, 1 of 'y' is negative"),
        (
            [[0, 10**9]] * 5 + [[3, 2]],
            {},
            "1000000000 in row 0, position 1 of 'y' would make 1,000,000,001",
        ),
        ([[0, 1]] * 5 + [[2, -100]], {}, "-100 in row 5, position 1 of 'y' marks a position to ig"),
        (
            [[0, 1]] * 5 + [[255, 2]],
            {},
            "255 in row 5, position 0 of 'y' marks a position to ignor",
        ),
        ([[0, 1]] * 5 + [[2, 1]], {"task": "multilabel"}, "2 in row 5, position 0 of 'y' is neit"),
        ([[0.0, 1]] * 5 + [[0, 0.5]], {"task": "multilabel"}, "0.5 in row 5, position 1 of 'y' is"),
        ([[[0, 1]]] * 6, {"task": "multilabel"}, "(6, 1, 2) and dtype int64"),
        (np.zeros((6, 0)), {}, "(6, 0)"),
        (np.array(["cat"] * 6), {"task": "regression"}, "dtype str96"),
        (np.array(["cat", ""] * 3), {}, "expected labels of 1 to 200 printable characters"),
        (np.array([b"cat", b"\xff"] * 3), {}, "no UTF-8 text"),
        (np.zeros(6, np.complex64), {}, "dtype complex64"),
        (np.full(6, 2**64 - 1, np.uint64), {}, "18446744073709551615 in row 0 of 'y' is larger"),
    ],
)
def test_wrong_targets_are_refused(
    npz: Save, targets: object, spec: dict[str, object], words: str
) -> None:
    assert words in unreadable(npz(x=GOOD, y=targets), spec)


def test_labels_beyond_any_integer_are_refused(npz: Save) -> None:
    targets = np.array([0, 1, 1e300, 0, 0, 0])
    message = unreadable(npz(x=GOOD, y=targets), {"task": "classification"})
    assert "1e+300 in row 2" in message


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_values_are_refused_with_their_row(save: Save, bad: float) -> None:
    inputs, targets = GOOD.copy(), np.linspace(0, 1, 6)
    inputs[4, 1] = targets[3] = bad
    failure = refusal(save(x=inputs))
    assert failure.code == FailureCode.NON_FINITE
    assert "first in row 4" in failure.message
    failure = refusal(save(x=GOOD, y=targets))
    assert failure.code == FailureCode.NON_FINITE
    assert "first in row 3" in failure.message


def test_transform_that_overflows_is_told_from_bad_data(npz: Save) -> None:
    transform = {"dtype": "float16", "scale": 1e5}
    failure = refusal(npz(x=GOOD), {"transform": transform})
    assert failure.code == FailureCode.NON_FINITE
    assert "The transform makes row 0 of 'x'" in failure.message
    assert "wider dtype than float16" in (failure.hint or "")


@pytest.mark.parametrize(
    ("transform", "words"),
    [
        ({"layout": "NHWC->NCHW"}, "has 4 axes, but the inputs are stored as (6, 2)"),
        ({"mean": [1.0, 2.0, 3.0]}, "mean has 3 values, but axis 1 of the inputs (6, 2) has 2"),
        ({"std": [1.0, 2.0, 3.0]}, "std has 3 values"),
    ],
)
def test_transform_must_fit(npz: Save, transform: dict[str, object], words: str) -> None:
    assert words in unreadable(npz(x=GOOD), {"transform": transform})


@pytest.mark.parametrize("dtype", ["complex64", "datetime64[s]", "float128", "S4"])
def test_unusable_dtypes_are_refused(npz: Save, dtype: str) -> None:
    message = unreadable(npz(x=np.zeros((6, 2), dtype)), {"input": "x"})
    assert np.dtype(dtype).name in message
    assert "float32" in message


def test_numbers_of_8_bits_are_refused_by_their_name() -> None:
    header = {"x": {"dtype": "F8_E4M3", "shape": [6, 2], "data_offsets": [0, 12]}}
    assert "dtype F8_E4M3" in unreadable(raw_safetensors(header, bytes(12)), {"input": "x"})


def test_pickled_objects_are_never_read() -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return pytest.fail, ("it was unpickled",)

    file = io.BytesIO()
    np.savez(file, x=np.array([[Bomb()]], dtype=object))
    assert "pickled, never read" in unreadable(file, {"input": "x"})


def test_declared_size_is_checked_before_anything_is_allocated() -> None:
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 1000)}\n"
    member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    assert "holds 0" in unreadable(zipped(("x.npy", member)))
    claim = {"x": {"dtype": "F64", "shape": [10**12, 1000], "data_offsets": [0, 8 * 10**15]}}
    assert "file holds 0 bytes of data" in unreadable(raw_safetensors(claim))


def test_array_beyond_the_limit_is_refused_with_the_limit(save: Save) -> None:
    message = unreadable(save(x=GOOD), max_array_bytes=47)
    assert "48 bytes" in message
    assert "at most 47 bytes" in message


def test_too_many_arrays_are_refused(save: Save) -> None:
    file = save(**{f"a{i}": GOOD for i in range(5)})
    assert "at most 4" in unreadable(file, max_arrays=4)


def test_same_name_twice_is_refused() -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        file = zipped(("x.npy", npy(GOOD)), ("x.npy", npy(GOOD)))
    assert "two arrays named 'x'" in unreadable(file)


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 300])
def test_names_nobody_can_read_are_refused(name: str) -> None:
    assert "printable characters" in unreadable(zipped((f"{name}.npy", npy(GOOD))))
    entry = {"dtype": "F32", "shape": [6, 2], "data_offsets": [0, 48]}
    assert "printable characters" in unreadable(raw_safetensors({name: entry}, GOOD.tobytes()))


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"{" * 100_000, "not JSON"),
        (b"{'x': 1}", "not JSON"),
        ({"x": 5}, "not {dtype, shape, data_offsets"),
        ({"x": {"dtype": "F32", "shape": [6, 2], "data_offsets": [0, 47]}}, "takes 48 bytes"),
        ({"x": {"dtype": "F32", "shape": [-6, -2], "data_offsets": [0, 48]}}, "no array can have"),
        ({"x": {"dtype": "F32", "shape": [True, 2], "data_offsets": [0, 8]}}, "not {dtype"),
        ({"x": {"dtype": "F32", "shape": [1] * 99, "data_offsets": [0, 4]}}, "at most 16"),
        ({"x": {"dtype": "F32", "shape": [6, 2], "data_offsets": [8, 56]}}, "bytes 8 to 56"),
        ({"x": {"dtype": "F32", "shape": [6, 2], "data_offsets": [-1, 47]}}, "bytes -1"),
        ({"x": {"dtype": "F32", "shape": [5, 2], "data_offsets": [8, 48]}}, "overlap, or leave"),
        ({"x": {"dtype": "F32", "shape": [5, 2], "data_offsets": [0, 40]}}, "8 bytes at its end"),
        (
            {
                "x": {"dtype": "F32", "shape": [6, 2], "data_offsets": [0, 48]},
                "y": {"dtype": "F32", "shape": [6], "data_offsets": [24, 48]},
            },
            "overlap, or leave",
        ),
        ({"x": {"dtype": "?", "shape": [10**4000] * 9, "data_offsets": [0, 0]}}, "no array"),
        ({"x": {"dtype": "F32", "shape": [10**4000], "data_offsets": [0, 0]}}, "no array can have"),
    ],
)
def test_damaged_safetensors_is_refused(header: object, words: str) -> None:
    assert words in unreadable(raw_safetensors(header, GOOD.tobytes()))


def test_safetensors_header_length_is_bounded() -> None:
    content = raw_safetensors(b"{" + b" " * (2 << 20) + b"}")
    assert "expected at most 1,048,576" in unreadable(content)


def test_truncated_upload_is_refused_wherever_it_ends(save: Save) -> None:
    whole = save(x=GOOD, y=np.arange(6)).getvalue()
    for kept in range(1, len(whole), 7):
        unreadable(whole[:kept])


def test_changed_bytes_in_an_npz_are_noticed(npz: Save) -> None:
    whole = bytearray(npz(x=GOOD).getvalue())
    at = whole.index(GOOD.tobytes())
    whole[at + 4] ^= 1
    assert "damaged" in unreadable(bytes(whole))


def test_a_member_whose_name_is_empty_is_refused(npz: Save) -> None:
    content = npz(x=GOOD, y=np.arange(6)).getvalue()
    assert "without a name" in unreadable(content.replace(b"y.npy", b"\0.npy"))


def test_a_member_that_says_it_is_encrypted_is_refused(npz: Save) -> None:
    whole = bytearray(npz(x=GOOD).getvalue())
    flags = whole.index(b"PK\x01\x02") + 8
    whole[flags] |= 1
    assert "'x' of the npz file is damaged" in unreadable(bytes(whole))


@settings(max_examples=300)
@given(st.data())
def test_any_damage_is_refused_or_harmless(data: st.DataObject) -> None:
    file = io.BytesIO()
    np.savez(file, x=GOOD, y=np.arange(6))
    content = bytearray(file.getvalue())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        inspect_probe(io.BytesIO(bytes(content)), ProbeSpec(), ProbeLimits())
    except JobError:
        return


@settings(max_examples=300)
@given(st.data())
def test_any_damage_to_safetensors_is_refused_or_harmless(data: st.DataObject) -> None:
    header = {
        "x": {"dtype": "F32", "shape": [6, 2], "data_offsets": [0, 48]},
        "y": {"dtype": "I8", "shape": [6], "data_offsets": [48, 54]},
    }
    content = bytearray(raw_safetensors(header, GOOD.tobytes() + bytes(6)))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        inspect_probe(io.BytesIO(bytes(content)), ProbeSpec(), ProbeLimits())
    except JobError:
        return
