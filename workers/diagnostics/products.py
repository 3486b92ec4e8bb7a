"""Sums of products over rows."""

from torch import Tensor

# Of p columns, 8 blocks leave out 7/16 of the work. Narrow ones take longer than what they save.
_BLOCKS = 8
_NARROWEST = 128


def add_products(sums: Tensor, rows: Tensor) -> None:
    """Add the inner products of all columns with one another, in place.

    Those above the diagonal are computed, block by block, and copied to below it.

    Args:
        sums: `(m, m)`, symmetric.
        rows: `(rows, m)`.

    Example:
        >>> sums = torch.zeros(2, 2)
        >>> add_products(sums, torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        >>> sums.tolist()
        [[10.0, 14.0], [14.0, 20.0]]
    """
    width = max(_NARROWEST, rows.shape[1] // _BLOCKS)
    for first in range(0, rows.shape[1], width):
        here, after = slice(first, first + width), slice(first + width, None)
        sums[here, first:].addmm_(rows[:, here].T, rows[:, first:])
        sums[after, here] = sums[here, after].T
