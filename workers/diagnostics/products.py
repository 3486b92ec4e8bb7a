"""Sums of products over rows."""

from collections.abc import Iterator

from torch import Tensor

# With 8 blocks of columns, 7/16 of the work is left out. Narrow blocks take longer than they save.
_BLOCKS = 8
_NARROWEST = 128


def add_products(sums: Tensor, rows: Tensor, others: Tensor | None = None) -> None:
    """Add the inner products of columns with one another to the upper blocks of `sums`.

    Only blocks on and above the diagonal are computed; `mirror` fills in those below.

    Args:
        sums: `(m, m)`.
        rows: `(rows, m)`.
        others: `(rows, m)`, whose products with `rows` are symmetric; None: the same rows.
    """
    others = rows if others is None else others
    for here, _ in _blocks(rows.shape[1]):
        sums[here, here.start :].addmm_(rows[:, here].T, others[:, here.start :])


def mirror(sums: Tensor) -> None:
    """Fill in the blocks that `add_products` left out, from those across the diagonal."""
    for here, after in _blocks(len(sums)):
        sums[after, here] = sums[here, after].T


def _blocks(columns: int) -> Iterator[tuple[slice, slice]]:
    """Yield blocks of columns, and for each block the columns that come after it."""
    width = max(_NARROWEST, columns // _BLOCKS)
    for first in range(0, columns, width):
        yield slice(first, first + width), slice(first + width, None)
