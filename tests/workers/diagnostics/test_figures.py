"""How figures are declared, and filled with what has been computed."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from workers.diagnostics.figures import (
    Sizes,
    counted_directions,
    figure,
    figures_of,
    filled,
    share,
    undefined,
)
from workers.diagnostics.measures import GROUPS
from workers.diagnostics.uncertainty import numbers_in, numbers_of

SIZES = Sizes(features=8, directions=5, targets=3, outputs=4)


@dataclass(frozen=True)
class Group:
    quality: float | None = figure(share, default=None)
    k: int | None = figure(counted_directions, rounding="upwards", default=None)
    vector: np.ndarray | None = None


def test_only_declared_fields_are_figures() -> None:
    assert figures_of(Group).keys() == {"quality", "k"}


def test_numbers_counts_and_vectors_are_told_apart() -> None:
    values = {"quality": torch.tensor(0.25), "k": torch.tensor(2.1), "vector": torch.ones(3)}
    group = filled(Group, values)
    assert (group.quality, group.k) == (0.25, 3)
    assert type(group.k) is int
    assert group.vector is not None
    np.testing.assert_array_equal(group.vector, np.ones(3))


def test_what_is_undefined_or_missing_is_none() -> None:
    values = {"quality": undefined(torch.tensor(0.5), torch.tensor(True))}
    assert filled(Group, values) == Group()


def test_numbers_of_values_are_those_of_the_group_they_fill() -> None:
    values = {"quality": torch.tensor(0.5), "k": torch.tensor(torch.nan)}
    assert numbers_of(Group, values) == numbers_in(filled(Group, values))
    several = {"quality": torch.tensor([0.5, torch.nan])}
    assert numbers_of(Group, several) == {"quality": [0.5, None]}


@pytest.mark.parametrize("part", GROUPS)
def test_ranges_are_ordered(part: str) -> None:
    declared = figures_of(GROUPS[part])
    assert declared
    for each in declared.values():
        low, high = each.bounds(SIZES)
        assert low < high
