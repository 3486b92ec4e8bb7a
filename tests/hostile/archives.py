"""Archives that PyTorch accepts, or chokes on, and that no exporter writes."""

import io
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from support import scripted
from torch import nn

UNSAFE, NO_MODEL = "unsafe_archive", "not_a_model"
ROOT = "archive"


@dataclass(frozen=True)
class Hostile:
    """A file and what is to become of it.

    Attributes:
        make: Makes the bytes.
        code: Of the refusal.
        words: In its message.
    """

    make: Callable[[], bytes]
    code: str
    words: str


def good_archive() -> bytes:
    """A small model as torch.jit.save writes it."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    return scripted(net)


def _entries() -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(good_archive())) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def pack(entries: Mapping[str, bytes], root: str = ROOT, packed: tuple[str, ...] = ()) -> bytes:
    """An archive of some entries, all stored but those that are named."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries.items():
            method = zipfile.ZIP_DEFLATED if name in packed else zipfile.ZIP_STORED
            archive.writestr(f"{root}/{name}", content, compress_type=method)
    return buffer.getvalue()


def _with(**changes: bytes) -> bytes:
    """With other content in some entries, named by their last part without its ending."""
    entries = _entries()
    for short, content in changes.items():
        names = [name for name in entries if name.rsplit("/", 1)[-1].split(".")[0] == short]
        entries[names[0] if names else short] = content
    return pack(entries)


def _plus(name: str, content: bytes = b"x") -> bytes:
    """With one more entry, whatever its name; it may be there already."""
    buffer = io.BytesIO(pack(_entries()))
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "a") as archive:
        warnings.simplefilter("ignore", UserWarning)  # zipfile knows that twice is once too often
        archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def _without(name: str) -> bytes:
    entries = _entries()
    del entries[name]
    return pack(entries)


def _coded(source: str) -> bytes:
    entries = _entries()
    # TorchScript numbers a class whose name another one in this process already has.
    (name, *_) = (name for name in entries if "/modules/container" in name and name.endswith(".py"))
    body = f"class Sequential(Module):\n  def forward(self, x: Tensor) -> Tensor:\n{source}\n"
    return pack({**entries, name: body.encode()})


def _patched(find: bytes, offset: int, value: bytes, *, last: bool = False) -> bytes:
    """With some bytes of a record's header changed; `find` is the record's magic."""
    content = bytearray(pack(_entries()))
    place = content.rindex(find) if last else content.index(find)
    content[place + offset : place + offset + len(value)] = value
    return bytes(content)


_LOCAL, _CENTRAL, _END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"


def _overlapping() -> bytes:
    """The second entry of the directory lies where the first does."""
    content = bytearray(pack({"a" * 4: b"x" * 40, **_entries()}))
    second = content.index(_CENTRAL, content.index(_CENTRAL) + 4)
    content[second + 42 : second + 46] = struct.pack("<L", 0)
    return bytes(content)


def _far_away() -> bytes:
    """The last entry of the directory lies at 2⁶⁴ − 1, where no file can be read."""
    content = pack(_entries())
    central, end = content.rindex(_CENTRAL), content.rindex(_END)
    extra = struct.pack("<HHQ", 1, 8, 2**64 - 1)
    entry = bytearray(content[central:end])
    entry[30:32], entry[42:46] = struct.pack("<H", len(extra)), b"\xff" * 4
    ending = bytearray(content[end:])
    (size,) = struct.unpack_from("<L", ending, 12)
    struct.pack_into("<L", ending, 12, size + len(extra))
    return content[:central] + bytes(entry) + extra + bytes(ending)


def _lying_size() -> bytes:
    """A stored entry whose directory says that it unpacks to more."""
    return _patched(_CENTRAL, 24, struct.pack("<L", 5000))


def _hidden_bytes() -> bytes:
    """Bytes between the last entry and the directory that belong to nobody."""
    content = pack(_entries())
    start = content.index(_CENTRAL)
    end = content.rindex(_END)
    moved = struct.pack("<L", start + 100)
    return content[:start] + bytes(100) + content[start : end + 16] + moved + content[end + 20 :]


def _prefixed() -> bytes:
    return _LOCAL + b"#!/bin/sh\nexit\n" + pack(_entries())


def _bomb() -> bytes:
    entries = _entries()
    name = next(name for name in entries if name.endswith(".py"))
    return pack({**entries, name: b" " * (8 << 20)}, packed=(name,))


def _tensor_bomb() -> bytes:
    return pack({**_entries(), "data/99": bytes(16 << 20)}, packed=("data/99",))


def _crowded() -> bytes:
    return pack({**_entries(), **{f"extra/{k}": b"" for k in range(21_000)}})


def _wrong_checksum() -> bytes:
    content = bytearray(pack(_entries()))
    place = content.index(_entries()["data.pkl"])
    content[place + 20] ^= 0xFF
    return bytes(content)


def _two_roots() -> bytes:
    return _plus("other/data/9")


def _wide_end() -> bytes:
    """A wide end that tells of another number of entries than the narrow one."""
    content = bytearray(good_archive())
    place = content.rindex(b"PK\x06\x06")
    content[place + 24 : place + 40] = struct.pack("<QQ", 3, 3)
    return bytes(content)


def _nested_tuples(depth: int) -> bytes:
    return b"\x80\x02)" + b"\x85" * depth + b"."


def _nested_marks(depth: int) -> bytes:
    return b"\x80\x02" + b"(" * depth + b"t" * depth + b"."


class _Shell:
    def __reduce__(self) -> tuple[Any, ...]:
        import os  # noqa: PLC0415 - as an attacker's pickle would name it

        return os.system, ("touch /tmp/owned",)


def _storage(elements: int, key: str = "0") -> bytes:
    """A pickle that describes one storage, as torch writes it."""
    described = (
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
         b"X" + struct.pack("<L", len(key)) + key.encode()
        + b"X\x03\x00\x00\x00cpu"
        + (b"K" + bytes([elements]) if 0 <= elements < 256 else b"J" + struct.pack("<l", elements))
        + b"tQ"
    )  # fmt: skip
    return b"\x80\x02" + described + b"."


HOSTILE: dict[str, Hostile] = {
    # -- not a model at all
    "a pickle": Hostile(lambda: pickle.dumps({"a": 1}), NO_MODEL, "pickle"),
    "an onnx file": Hostile(lambda: b"\x08\x07onnx" + bytes(60), NO_MODEL, "protocol buffer"),
    "a numpy array": Hostile(lambda: b"\x93NUMPY" + bytes(60), NO_MODEL, ".npy"),
    "a keras file": Hostile(lambda: b"\x89HDF\r\n\x1a\n" + bytes(60), NO_MODEL, "HDF5"),
    "text": Hostile(lambda: b"hello", NO_MODEL, "none of the formats"),
    "a truncated archive": Hostile(lambda: good_archive()[:3000], NO_MODEL, "cut off"),
    "an empty archive": Hostile(
        lambda: b"PK\x05\x06" + bytes(18), NO_MODEL, "none of the formats"
    ),
    "a checkpoint": Hostile(lambda: _without("constants.pkl"), NO_MODEL, "checkpoint"),
    "a zip of photos": Hostile(lambda: pack({"photo.jpg": b"x"}), NO_MODEL, "something else"),
    # -- what readers of zip files disagree about
    "trailing bytes": Hostile(lambda: good_archive() + b"x", NO_MODEL, "something follows"),
    "a comment at the end": Hostile(
        lambda: pack(_entries())[:-2] + b"\x01\x00x", NO_MODEL, "something follows"
    ),
    "a file before it": Hostile(_prefixed, UNSAFE, "directory is not where"),
    "bytes of nobody": Hostile(_hidden_bytes, UNSAFE, "belong to no entry"),
    "two ends that disagree": Hostile(_wide_end, UNSAFE, "contradict"),
    "several disks": Hostile(lambda: _patched(_END, 4, b"\x01\x00"), UNSAFE, "disks"),
    "fewer entries than there are": Hostile(
        lambda: _patched(_END, 8, b"\x02\x00\x02\x00"), UNSAFE, "more than it lists"
    ),
    "more entries than there are": Hostile(
        lambda: _patched(_END, 8, b"\xf0\x00\xf0\x00"), NO_MODEL, "ends early"
    ),
    "overlapping entries": Hostile(_overlapping, UNSAFE, "otherwise in its own header"),
    "another name in its own header": Hostile(
        lambda: _patched(_LOCAL, 32, b"X"), UNSAFE, "otherwise in its own header"
    ),
    "another packing in its own header": Hostile(
        lambda: _patched(_LOCAL, 8, b"\x08\x00"), UNSAFE, "otherwise in its own header"
    ),
    "another size in its own header": Hostile(
        lambda: _patched(_LOCAL, 22, struct.pack("<L", 7)), UNSAFE, "otherwise in its own header"
    ),
    "an entry out of bounds": Hostile(
        lambda: _patched(_CENTRAL, 42, struct.pack("<L", 1 << 30)), NO_MODEL, "not where"
    ),
    "an entry beyond any file": Hostile(_far_away, NO_MODEL, "not where"),
    "two sizes of a stored entry": Hostile(_lying_size, UNSAFE, "otherwise in its own header"),
    "an encrypted entry": Hostile(lambda: _patched(_CENTRAL, 8, b"\x01"), UNSAFE, "encrypted"),
    "an unknown packing": Hostile(lambda: _patched(_CENTRAL, 10, b"\x0e"), UNSAFE, "unknown way"),
    "a comment on an entry": Hostile(
        lambda: _patched(_CENTRAL, 32, b"\x01\x00", last=True), NO_MODEL, "directory"
    ),
    "a wrong checksum": Hostile(_wrong_checksum, NO_MODEL, "checksum"),
    # -- names
    "the same name twice": Hostile(lambda: _plus(f"{ROOT}/data.pkl"), UNSAFE, "twice"),
    "the same name in capitals": Hostile(lambda: _plus(f"{ROOT}/DATA.PKL"), UNSAFE, "twice"),
    "a name that leads out": Hostile(
        lambda: _plus(f"{ROOT}/../../etc/passwd"), UNSAFE, "leads out"
    ),
    "a name from the root": Hostile(lambda: _plus("/etc/passwd"), UNSAFE, "leads out"),
    "a folder": Hostile(lambda: _plus(f"{ROOT}/data/"), UNSAFE, "leads out"),
    "a name with a backslash": Hostile(lambda: _plus(f"{ROOT}\\x"), UNSAFE, "no name"),
    "a name with an escape": Hostile(lambda: _plus(f"{ROOT}/\x1b[2J"), UNSAFE, "no name"),
    "a name that turns text around": Hostile(
        lambda: _plus(f"{ROOT}/extra/\u202egnp.exe"), UNSAFE, "no name"
    ),
    "an endless name": Hostile(lambda: _plus(f"{ROOT}/extra/{'x' * 5000}"), UNSAFE, "no name"),
    "two folders at the top": Hostile(_two_roots, UNSAFE, "folders at its top"),
    "an entry of no model": Hostile(lambda: _plus(f"{ROOT}/run.sh"), UNSAFE, "no part of a model"),
    # -- what they unpack to
    "twenty thousand entries": Hostile(_crowded, UNSAFE, "entries"),
    "code that is a bomb": Hostile(_bomb, UNSAFE, "unpacks to"),
    "a tensor that is a bomb": Hostile(_tensor_bomb, UNSAFE, "unpacks to"),
    "a deflated tensor": Hostile(
        lambda: pack(_entries(), packed=("data/0",)), UNSAFE, "deflated"
    ),
    # -- what has to be there
    "no version": Hostile(lambda: _without("version"), UNSAFE, "version"),
    "a version in words": Hostile(lambda: _with(version=b"new"), UNSAFE, "version"),
    "big-endian numbers": Hostile(lambda: _with(byteorder=b"big"), UNSAFE, "little-endian"),
    "no code": Hostile(
        lambda: pack({k: v for k, v in _entries().items() if not k.startswith("code/")}),
        UNSAFE, "no code",
    ),
    # -- pickles
    "a pickle that runs a program": Hostile(
        lambda: _with(constants=pickle.dumps(_Shell(), protocol=2)), UNSAFE, "names"
    ),
    "a newer pickle that runs one": Hostile(
        lambda: _with(data=pickle.dumps(_Shell(), protocol=4)), UNSAFE, "STACK_GLOBAL"
    ),
    "a pickle that imports": Hostile(
        lambda: _with(constants=b"\x80\x02cbuiltins\neval\n."), UNSAFE, "builtins.eval"
    ),
    "a pickle that extends": Hostile(
        lambda: _with(constants=b"\x80\x02\x82\x01."), UNSAFE, "EXT1"
    ),
    "three million nested tuples": Hostile(
        lambda: _with(constants=_nested_tuples(3_000_000)), UNSAFE, "nests deeper"
    ),
    "a thousand nested lists": Hostile(
        lambda: _with(constants=_nested_marks(1000)), UNSAFE, "nests deeper"
    ),
    "a storage larger than its record": Hostile(
        lambda: _with(data=_storage(1 << 30)), UNSAFE, "claims"
    ),
    "a storage without a record": Hostile(
        lambda: _with(data=_storage(4, key="77")), UNSAFE, "is not there"
    ),
    "a storage of less than nothing": Hostile(
        lambda: _with(data=_storage(-4)), UNSAFE, "claims"
    ),
    "a pickle cut off": Hostile(
        lambda: _with(data=b"\x80\x02X\xff\x00"), NO_MODEL, "cannot be read"
    ),
    # -- code
    "code that saves": Hostile(
        lambda: _coded('    torch.save(x, "/tmp/owned")\n    return x'), UNSAFE, "'save'"
    ),
    "code that reads files": Hostile(
        lambda: _coded('    return torch.from_file("/etc/passwd", False, 100)'), UNSAFE, "from_file"
    ),
    "code that hides its dots": Hostile(
        lambda: _coded('    return torch . \\\n    from_file ("/etc/passwd", False, 100)'),
        UNSAFE, "from_file",
    ),
    "code that hides behind a mark in a text": Hostile(
        lambda: _coded('    return ("#", torch.from_file("/etc/passwd", False, 100))[1]'),
        UNSAFE, "from_file",
    ),
    "code that leaks an address": Hostile(
        lambda: _coded("    print(torch.data_ptr(x))\n    return x"), UNSAFE, "data_ptr"
    ),
    "code that builds unchecked tensors": Hostile(
        lambda: _coded("    return torch._sparse_coo_tensor_unsafe(x, x)"), UNSAFE, "_unsafe"
    ),
    "code that calls other machines": Hostile(
        lambda: _coded('    return rpc_sync("host", "f")'), UNSAFE, "rpc_sync"
    ),
    "code of unknown operations": Hostile(
        lambda: _coded("    return ops.evil.run(x)"), UNSAFE, "evil"
    ),
    "three hundred thousand parentheses": Hostile(
        lambda: _coded("    return " + "(" * 300_000 + "x" + ")" * 300_000),
        UNSAFE, "nests brackets",
    ),
    "a line without end": Hostile(
        lambda: _coded("    return x" + " + x" * 400_000), UNSAFE, "a line of more"
    ),
    "more lines than anyone reads": Hostile(
        lambda: _coded("    x = x\n" * 250_000 + "    return x"), UNSAFE, "lines"
    ),
}  # fmt: skip
