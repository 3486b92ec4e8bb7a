"""Which archives pass the checks, and what is said of those that do not."""

import io
import re
import tracemalloc
import zipfile
from contextlib import suppress

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import exported, scripted
from torch import nn

from service.contract.archives import ArchiveError, check_archive
from tests.hostile.archives import HOSTILE, good_archive, pack
from tests.hostile.exports import HOSTILE_EXPORTS

GOOD = good_archive()
GOOD_EXPORT = exported(nn.Linear(4, 2), torch.zeros(3, 4))


def refusal(content: bytes) -> ArchiveError:
    with pytest.raises(ArchiveError) as caught:
        check_archive(io.BytesIO(content))
    return caught.value


@pytest.mark.parametrize("name", HOSTILE | HOSTILE_EXPORTS)
def test_hostile_archives_are_refused_with_the_reason(name: str) -> None:
    case = (HOSTILE | HOSTILE_EXPORTS)[name]
    error = refusal(case.make())
    assert case.words in error.message
    assert error.code == case.code
    assert str(error).isprintable()
    assert len(str(error)) < 1000


def test_what_exporters_write_passes() -> None:
    assert check_archive(io.BytesIO(GOOD)) == "torchscript"
    assert check_archive(io.BytesIO(GOOD_EXPORT)) == "torch_export"


class Unusual(nn.Module):
    """Weights that are empty, parts of another, or one number at many places."""

    def __init__(self) -> None:
        super().__init__()
        self.empty = nn.Parameter(torch.zeros(0, 4))
        self.register_buffer("large", torch.randn(100, 10))
        self.register_buffer("part", self.large[50:60].t())
        other = torch.randn(100, 10)
        self.register_buffer("first", other[10:20])
        self.register_buffer("second", other[15:40, ::2])
        self.register_buffer("spread", torch.ones(3).expand(4, 3))
        self.register_buffer("number", torch.tensor(3))
        self.register_buffer("short", torch.ones(4, dtype=torch.bfloat16))
        self.register_buffer("kept", torch.ones(4, dtype=torch.bool))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = self.empty.sum() + self.part.sum() + self.large.sum() + self.spread.sum()
        total = total + self.first.sum() + self.second.sum()
        return x * total * self.number * self.short + self.kept


@pytest.mark.filterwarnings("ignore:No complete tensor found")
def test_weights_of_any_layout_pass() -> None:
    assert check_archive(io.BytesIO(exported(Unusual(), torch.zeros(3, 4)))) == "torch_export"


def test_what_a_packer_makes_of_the_same_entries_passes() -> None:
    """Other packers leave out the padding, and need not write sizes after the data."""
    with zipfile.ZipFile(io.BytesIO(GOOD)) as archive:
        entries = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    code = tuple(name for name in entries if name.startswith("code/"))
    assert check_archive(io.BytesIO(pack(entries, root="mein Modell é", packed=code)))


def test_a_large_model_is_read_once_and_never_held() -> None:
    counted = Counted(scripted(nn.Sequential(nn.Linear(3000, 3000), nn.Linear(3000, 4))))
    size = len(counted.getvalue())
    assert size > 36_000_000
    tracemalloc.start()
    check_archive(counted)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert counted.bytes_read < size + 100_000
    assert peak < 5_000_000


FLIPPED = [
    (kind, name)
    for kind, content in (("script", GOOD), ("export", GOOD_EXPORT))
    for name in zipfile.ZipFile(io.BytesIO(content)).namelist()
]


@pytest.mark.parametrize(("kind", "name"), FLIPPED)
def test_a_flipped_bit_in_any_record_is_found(kind: str, name: str) -> None:
    content = bytearray(GOOD if kind == "script" else GOOD_EXPORT)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entry = archive.getinfo(name)
        start = content.index(name.encode(), entry.header_offset) + len(name)
        extra = int.from_bytes(
            content[entry.header_offset + 28 : entry.header_offset + 30], "little"
        )
    content[start + extra + entry.compress_size // 2] ^= 1
    error = refusal(bytes(content))
    if error.code == "not_a_model":
        # Else it is found earlier, by what the record says.
        assert "damaged" in error.message
        assert name.partition("/")[2] in error.message
        assert "the upload was damaged" in error.hint


def test_a_flipped_weight_is_told_as_damage() -> None:
    content = bytearray(scripted(nn.Linear(40, 3)))
    content[content.index(b"data/0") + 4000 // 40] ^= 1
    error = refusal(bytes(content))
    assert "the checksum of 'data/0' is wrong" in error.message


@pytest.mark.parametrize("end", [0, 1, -1])
def test_a_deflated_record_of_another_size_is_found(end: int) -> None:
    """The sum may be right for what is there, and what is there not all that there should be."""
    with zipfile.ZipFile(io.BytesIO(GOOD)) as archive:
        entries = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    code = next(name for name in entries if name.endswith(".py"))
    entries["extra/notes"] = bytes(range(256)) * 20
    packed = bytearray(pack(entries, packed=(code, "extra/notes")))
    assert check_archive(io.BytesIO(packed)) == "torchscript"
    at = [m.start() for m in re.finditer((5120).to_bytes(4, "little"), packed)]
    for place in at:
        packed[place : place + 4] = (5120 + end).to_bytes(4, "little")
    if end:
        refusal(bytes(packed))


class Named(nn.Module):
    """Calls its own parts as libraries call what reaches for files."""

    def __init__(self) -> None:
        super().__init__()
        self.ops = nn.ModuleDict({"conv": nn.Linear(8, 8), "save": nn.Linear(8, 8)})
        self.head = nn.Linear(8, 3)

    def save(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1

    def data_ptr(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for part in self.ops.values():
            x = part(x)
        return self.head(self.data_ptr(self.save(x)))


def test_a_model_may_call_its_own_parts_as_it_likes() -> None:
    assert check_archive(io.BytesIO(scripted(Named()))) == "torchscript"


class Counted(io.BytesIO):
    """Counts the bytes that are read."""

    bytes_read = 0

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(size)
        self.bytes_read += len(content)
        return content


@settings(max_examples=300, deadline=None)
@given(
    good=st.sampled_from([(GOOD, "torchscript"), (GOOD_EXPORT, "torch_export")]),
    where=st.floats(0, 1, exclude_max=True),
    value=st.integers(0, 255),
    cut=st.booleans(),
)
def test_whatever_is_changed_it_passes_or_is_refused(
    good: tuple[bytes, str], where: float, value: int, cut: bool
) -> None:
    """Damage of any kind ends in the one exception, and never in another."""
    content, kind = good
    place = int(where * len(content))
    changed = content[:place] if cut else content[:place] + bytes([value]) + content[place + 1 :]
    with suppress(ArchiveError):
        assert check_archive(io.BytesIO(changed)) == kind
