"""Sums by class, with columns only for the classes that occur.

A fold of 800 samples contains at most 800 of 65,536 classes.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Indicators(NamedTuple):
    """Class indicators of some rows.

    Attributes:
        classes: The k classes that occur, ascending `(k,)` int64.
        values: 1 where the row belongs to the class, else 0: `(rows, k)` float64.
    """

    classes: Tensor
    values: Tensor


def indicators(labels: Tensor) -> Indicators:
    """Build the indicators of the classes that occur among labels `(rows,)`.

    Example:
        >>> found = indicators(torch.tensor([7, 2, 7]))
        >>> found.classes.tolist(), found.values.tolist()
        ([2, 7], [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    """
    classes, column = torch.unique(labels, return_inverse=True)
    values = torch.zeros(len(labels), len(classes), dtype=torch.float64, device=labels.device)
    return Indicators(classes, values.scatter_(1, column[:, None], 1.0))


def united(first: Tensor, second: Tensor) -> Tensor:
    """Return the classes that occur in either, ascending."""
    classes: Tensor = torch.unique(torch.cat([first, second]))
    return classes


def widened(sums: Tensor, classes: Tensor, wider: Tensor) -> Tensor:
    """Return sums with a column for each class of a larger set, zero for the added ones.

    Args:
        sums: `(m, k)`, one column for each of `classes`.
        classes: Ascending, `(k,)`.
        wider: The same classes and more, ascending.

    Example:
        >>> widened(torch.ones(1, 2), torch.tensor([2, 7]), torch.tensor([1, 2, 7])).tolist()
        [[0.0, 1.0, 1.0]]
    """
    if len(classes) == len(wider):
        return sums
    return sums.new_zeros(len(sums), len(wider)).index_copy_(
        1, torch.searchsorted(wider, classes), sums
    )
