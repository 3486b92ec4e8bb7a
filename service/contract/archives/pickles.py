"""A walk through a pickle that executes nothing: what it names, how deep it nests, what it needs.

PyTorch's own reader builds the objects, and with them recursion and tensors over storages. It
trusts the numbers; here they are compared with the records that the archive holds.
"""

import io
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from service.contract.archives.errors import ArchiveError, damaged, unsafe
from service.contract.archives.zips import shown

MAX_PICKLE_BYTES = 32 << 20
_MAX_DEPTH = 200
_MAX_MEMO = 5_000_000
_RECENT = 64

# Bytes of an element, by the name of the storage's type.
_ITEM_BYTES: Mapping[str, int] = {
    **dict.fromkeys(("CharStorage", "ByteStorage", "BoolStorage"), 1),
    **dict.fromkeys(("QUInt8Storage", "QInt8Storage", "UntypedStorage"), 1),
    **dict.fromkeys(("Float8_e4m3fnStorage", "Float8_e5m2Storage"), 1),
    **dict.fromkeys(("HalfStorage", "BFloat16Storage", "ShortStorage"), 2),
    **dict.fromkeys(("FloatStorage", "IntStorage", "QInt32Storage", "ComplexHalfStorage"), 4),
    **dict.fromkeys(("DoubleStorage", "LongStorage", "ComplexFloatStorage"), 8),
    "ComplexDoubleStorage": 16,
}
_REBUILDERS = frozenset(
    {
        *("_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_qtensor", "_rebuild_parameter"),
        *("_rebuild_sparse_tensor", "_rebuild_meta_tensor_no_storage"),
    }
)
_ALLOWED: Mapping[str, frozenset[str]] = {
    "torch._utils": _REBUILDERS,
    "torch": frozenset({*_ITEM_BYTES, "device", "per_tensor_affine", "per_channel_affine", "Size"}),
    "torch.storage": frozenset({"UntypedStorage"}),
    "torch.serialization": frozenset({"_get_layout"}),
    "collections": frozenset({"OrderedDict"}),
}
_OF_SCRIPTS = "torch.jit._pickle"
_OWN_CLASSES = ("__torch__.", "torch.classes.")

# Opcodes by which a pickle reaches for more than data.
_FORBIDDEN = frozenset(
    {
        *("INST", "OBJ", "NEWOBJ_EX", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4", "PERSID"),
        *("NEXT_BUFFER", "READONLY_BUFFER"),
    }
)
_WRAPPERS = frozenset({"TUPLE1", "TUPLE2", "TUPLE3"})
_CLOSERS = frozenset({"TUPLE", "SETITEMS", "APPENDS", "LIST", "DICT", "ADDITEMS", "FROZENSET"})
_PUTS, _GETS = frozenset({"BINPUT", "LONG_BINPUT"}), frozenset({"BINGET", "LONG_BINGET"})

RecordBytes = Callable[[str], int | None]
"""Size of a storage's record, given its key; None if there is none."""


@dataclass
class _Walk:
    """State of the walk.

    Attributes:
        depth: Marks that are open.
        wrapped: Small tuples put around the last one, one around another.
        recent: The last values pushed: names of globals, texts and numbers.
        memo: Values by the number they were put under.
    """

    depth: int = 0
    wrapped: int = 0
    recent: list[object] = field(default_factory=list)
    memo: dict[int, object] = field(default_factory=dict)


@dataclass(frozen=True)
class _Global:
    name: str


def check_pickle(content: bytes, name: str, record_bytes: RecordBytes) -> None:
    """Refuse a pickle that is not one of tensors, numbers, texts and the archive's own classes.

    Args:
        content: The pickle.
        name: Its name in messages.
        record_bytes: Returns the size of a storage's record.

    Raises:
        ArchiveError: It names anything else, nests too deep, or claims more than there is.
    """
    walk = _Walk()
    try:
        for opcode, argument, _ in pickletools.genops(io.BytesIO(content)):
            _step(walk, opcode.name, argument, name, record_bytes)
    except ArchiveError:
        raise
    except Exception as error:  # pickletools raises what it comes across
        raise damaged(f"{shown(name)} cannot be read") from error


def _step(walk: _Walk, opcode: str, argument: object, name: str, record_bytes: RecordBytes) -> None:
    if opcode in _FORBIDDEN:
        raise unsafe(f"{shown(name)} has the opcode {opcode}")
    if opcode == "GLOBAL":
        walk.recent.append(_Global(_checked_global(str(argument), name)))
    elif opcode == "BINPERSID":
        _check_storage(walk.recent, name, record_bytes)
    elif opcode in _PUTS:
        _put(walk, argument, name)
        return
    elif opcode in _GETS:
        walk.recent.append(walk.memo.get(_number(argument)))
    elif isinstance(argument, str) or (isinstance(argument, int) and opcode != "PROTO"):
        walk.recent.append(argument)
    _measure(walk, opcode, name)
    if len(walk.recent) > _RECENT:
        del walk.recent[: _RECENT // 2]


def _checked_global(argument: str, name: str) -> str:
    module, _, attribute = argument.partition(" ")
    known = (
        attribute in _ALLOWED.get(module, ())
        or f"{module}.".startswith(_OWN_CLASSES)
        or (module == _OF_SCRIPTS and attribute.startswith(("build_", "restore_type_tag")))
    )
    if not known:
        raise unsafe(f"{shown(name)} names {shown(f'{module}.{attribute}')}")
    return attribute


def _check_storage(recent: list[object], name: str, record_bytes: RecordBytes) -> None:
    """Check a storage: `("storage", type, key, location, elements)`."""
    described = recent[-5:]
    kind = next((each.name for each in described if isinstance(each, _Global)), "")
    texts = [each for each in described if isinstance(each, str)]
    elements = described[-1] if described else None
    if kind not in _ITEM_BYTES or len(texts) < 2 or not isinstance(elements, int):  # noqa: PLR2004 - key and place
        raise unsafe(f"{shown(name)} describes a storage in an unusual way")
    key = texts[-2]
    held = record_bytes(key)
    if held is None or elements < 0 or elements * _ITEM_BYTES[kind] > held:
        raise unsafe(
            f"{shown(name)} claims {elements:,} elements of {kind} in record {shown(key)}, which "
            f"{'is not there' if held is None else f'holds {held:,} bytes'}"
        )


def _put(walk: _Walk, argument: object, name: str) -> None:
    number = _number(argument)
    if number > _MAX_MEMO:
        raise unsafe(f"{shown(name)} remembers too much")
    if walk.recent:
        walk.memo[number] = walk.recent[-1]


def _number(argument: object) -> int:
    return argument if isinstance(argument, int) else -1


def _measure(walk: _Walk, opcode: str, name: str) -> None:
    if opcode == "MARK":
        walk.depth += 1
    elif opcode in _CLOSERS:
        walk.depth -= 1
    walk.wrapped = walk.wrapped + 1 if opcode in _WRAPPERS else 0
    if walk.depth > _MAX_DEPTH or walk.wrapped > _MAX_DEPTH:
        raise unsafe(f"{shown(name)} nests deeper than {_MAX_DEPTH} levels")
