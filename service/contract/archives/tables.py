"""The tables of an exported program's weights and constants: how much of its record each claims.

PyTorch reads an empty record as zeros, whatever shape the table gives its tensor.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from service.contract.archives.errors import damaged, unsafe
from service.contract.archives.zips import shown

MAX_TABLE_BYTES = 32 << 20

# Bytes of an element, by torch.export's number of its dtype. Of others it is one byte at least.
_ITEM_BYTES: Mapping[object, int] = {
    **dict.fromkeys((3, 6, 13, 28), 2),  # int16, float16, bfloat16, uint16
    **dict.fromkeys((4, 7, 9, 34), 4),  # int32, float32, complex32, uint32
    **dict.fromkeys((5, 8, 10, 35), 8),  # int64, float64, complex64, uint64
    11: 16,  # complex128
}

RecordBytes = Callable[[str], int | None]
"""Size of a record, given its name in the table's folder; None if there is none."""


def check_table(content: bytes, name: str, record_bytes: RecordBytes) -> None:
    """Check that weights or constants are plain numbers, since torch would execute a pickle.

    Args:
        content: JSON.
        name: Its name in messages.
        record_bytes: Returns the size of a record.

    Raises:
        ArchiveError: It cannot be read, one is a pickle, or one claims more than its record holds.
    """
    try:
        entries = list(json.loads(content)["config"].items())
        pickled = [key for key, about in entries if about.get("use_pickle")]
        claims = [
            (key, about["path_name"], _claimed(about["tensor_meta"]))
            for key, about in entries
            if about.get("tensor_meta") is not None
        ]
        short = [
            (key, held)
            for key, record, claimed in claims
            if (held := record_bytes(record)) is None or held < claimed
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(f"{shown(name)} cannot be read") from error
    if pickled:
        raise unsafe(f"{shown(pickled[0])} is a pickled object, not a plain tensor")
    if short:
        key, held = short[0]
        raise unsafe(
            f"{shown(name)} claims more numbers of {shown(key)} than its record has, which "
            f"{'is not there' if held is None else f'holds {held:,} bytes'}"
        )


def _claimed(tensor: Mapping[str, Any]) -> int:
    """Return how many bytes a tensor reaches into its record; none if it has no elements."""
    sizes = [size["as_int"] for size in tensor["sizes"]]
    if 0 in sizes:
        return 0
    steps = [stride["as_int"] for stride in tensor["strides"]]
    last = sum(int(size - 1) * step for size, step in zip(sizes, steps, strict=True))
    elements: int = tensor["storage_offset"]["as_int"] + last + 1
    return elements * _ITEM_BYTES.get(tensor["dtype"], 1)
