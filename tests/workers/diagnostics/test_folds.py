from functools import reduce
from operator import add

import pytest
import torch

from workers.diagnostics import Moments
from workers.diagnostics.folds import Folds


@pytest.mark.parametrize("batch", [1, 7, 1000, 3000])
def test_folds_sum_to_the_moments_of_everything(batch: int) -> None:
    generator = torch.Generator().manual_seed(0)
    phi, outputs, targets = (
        torch.randn(3000, width, generator=generator, dtype=torch.float64) for width in (5, 3, 2)
    )
    folds = Folds(3000, seed=1)
    for rows in torch.arange(3000).split(batch):  # type: ignore[no-untyped-call]  # torch's
        folds.update(phi[rows], outputs[rows], targets[rows])
    moments = folds.moments()
    assert [fold.n for fold in moments] == [300] * 10
    whole = Moments.zeros(5, 3, 2)
    whole.update(phi, outputs, targets)
    total = reduce(add, moments)
    for name, expected in whole.to_arrays().items():
        torch.testing.assert_close(
            torch.tensor(total.to_arrays()[name]), torch.tensor(expected), rtol=1e-12, atol=1e-9
        )


def test_products_of_many_columns_are_whole() -> None:
    generator = torch.Generator().manual_seed(0)
    phi, outputs, targets = (
        torch.randn(900, width, generator=generator, dtype=torch.float64)
        for width in (600, 300, 200)
    )
    folds = Folds(900, seed=1)
    for rows in torch.arange(900).split(250):  # type: ignore[no-untyped-call]  # torch's
        folds.update(phi[rows], outputs[rows], targets[rows])
    total = reduce(add, folds.moments())
    for sums, rows in ((total.phi_phi, phi), (total.f_f, outputs), (total.y_y, targets)):
        torch.testing.assert_close(sums, rows.T @ rows, rtol=1e-12, atol=1e-9)


def test_labels_that_cycle_are_spread_over_all_folds() -> None:
    labels = torch.eye(10)[torch.arange(2000) % 10]
    folds = Folds(2000, seed=0)
    folds.update(torch.ones(2000, 1), torch.ones(2000, 1), labels)
    counts = torch.stack([fold.y for fold in folds.moments()])
    assert counts.min() > 5


def test_without_targets_there_are_none() -> None:
    folds = Folds(20, seed=0)
    folds.update(torch.ones(20, 2), torch.ones(20, 1), None)
    assert {fold.d for fold in folds.moments()} == {0}


@pytest.mark.parametrize("batch", [1, 7, 50])
def test_positions_of_one_sample_stay_in_one_fold(batch: int) -> None:
    """Each sample is told by a feature of its own: no fold may share one with another."""
    samples, positions = 50, 6
    phi = torch.eye(samples).repeat_interleave(positions, 0)
    folds = Folds(samples, positions=positions, seed=3)
    for part in phi.split(batch * positions):  # type: ignore[no-untyped-call]  # torch's
        folds.update(part, part[:, :1], part[:, :2])
    found = torch.stack([fold.phi for fold in folds.moments()])
    assert [fold.n for fold in folds.moments()] == [5 * positions] * 10
    assert sorted(found.flatten().unique().tolist()) == [0, positions]
    assert found.sum(0).tolist() == [positions] * samples


@pytest.mark.parametrize("batch", [1, 7, 50])
def test_samples_may_have_different_numbers_of_rows(batch: int) -> None:
    """A sample goes to the fold that it would go to with one row, and with none to no fold."""
    samples = 50
    sizes = torch.randint(0, 5, (samples,), generator=torch.Generator().manual_seed(0))
    sizes[[0, 20, 49]] = 0
    folds, alone = Folds(samples, positions=sizes, seed=3), Folds(samples, seed=3)
    told = torch.eye(samples)
    alone.update(told, told[:, :1], None)
    for part in torch.arange(samples).split(batch):  # type: ignore[no-untyped-call]  # torch's
        rows = told[part].repeat_interleave(sizes[part], 0)
        if len(rows):
            folds.update(rows, rows[:, :1], None)
    for fold, expected in zip(folds.moments(), alone.moments(), strict=True):
        assert fold.phi.tolist() == (expected.phi * sizes).tolist()
