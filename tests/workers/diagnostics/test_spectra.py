"""Spectra near that of all samples against those solved for in full."""

from typing import Any

import pytest
import torch
from samples import diagnosed, normal
from torch import Tensor

from workers.diagnostics import Model, Moments, diagnose
from workers.diagnostics.averages import Averages, stacked
from workers.diagnostics.ranks import effective_ranks, energy_reach, slopes
from workers.diagnostics.spectra import (
    FEW_FEATURES,
    CenteredNeighbours,
    Pair,
    Spectrum,
    UncenteredNeighbours,
    is_near_cheaper,
    nearby,
    solved,
    spectra,
    spectrum,
)
from workers.diagnostics.steps import Steps

P, N, FOLDS = 300, 1500, 10


def sums(phi: Tensor) -> Moments:
    moments = Moments.zeros(phi.shape[1], 0)
    moments.update(phi, phi[:, :0])
    return moments


@pytest.fixture(scope="module")
def folds() -> list[Moments]:
    """Ten sets of samples of correlated features with a mean."""
    spread = torch.arange(1, P + 1, dtype=torch.float64) ** -0.4
    phi = 0.3 + normal(N, P, seed=1) * spread
    return [sums(part) for part in phi.tensor_split(FOLDS)]


def total_of(folds: list[Moments]) -> Moments:
    total = folds[0]
    for fold in folds[1:]:
        total = total + fold
    return total


def numbers(eigenvalues: Tensor) -> dict[str, Tensor]:
    return {
        **effective_ranks(eigenvalues),
        "k95_energy": energy_reach(eigenvalues, eigenvalues.sum()),
        "singular": eigenvalues.sqrt().sum(),
    }


@pytest.mark.parametrize("name", ["entropy", "rankme", "k95_energy", "singular"])
def test_slopes_are_the_derivatives(name: str) -> None:
    eigenvalues = torch.arange(40, 0, -1, dtype=torch.float64) ** 1.5
    slope = getattr(slopes(eigenvalues), name)
    for place in (0, 3, 20, 39):
        step = torch.zeros_like(eigenvalues)
        step[place] = 1e-4 * eigenvalues[place]
        above, below = numbers(eigenvalues + step)[name], numbers(eigenvalues - step)[name]
        change = (above - below) / (2 * step[place])
        assert float(slope[place]) == pytest.approx(float(change), rel=1e-5)


def test_sets_of_samples_are_solved_together_as_alone(folds: list[Moments]) -> None:
    total = total_of(folds)
    rests = [total.without(fold).centered_averages() for fold in folds[:3]]
    entire = spectrum(total.centered_averages(), P)
    together = solved(stacked(rests), P, entire.pairs)
    for place, rest in enumerate(rests):
        alone = solved(rest, P, entire.pairs)
        torch.testing.assert_close(together.pairs.eigenvalues[place], alone.pairs.eigenvalues)
        for name, value in alone.effective.items():
            torch.testing.assert_close(together.effective[name][place], value)
        assert together.rank[place] == alone.rank


def test_near_spectra_change_as_those_solved_in_full(folds: list[Moments]) -> None:
    """To a tenth of how much the figures of folds differ from that of all samples, and among them.

    The former is mostly bias, the same in each; the latter makes the width of intervals.
    """
    total = total_of(folds)
    raw, centered = total.averages(), total.centered_averages()
    entire = Pair(spectrum(raw, P), spectrum(centered, P))
    example = total.without(folds[0]).centered_averages()
    near = CenteredNeighbours(entire.centered, centered, example, P)
    uncentered = UncenteredNeighbours(entire, raw.phi_size)
    found, exact = [], []
    for fold in folds:
        rest = total.without(fold)
        found.append(_near(entire, near, uncentered, rest.averages()))
        averages = (rest.averages(), rest.centered_averages())
        exact.append([solved(each, P, of.pairs) for each, of in zip(averages, entire, strict=True)])
    for which, of_all in enumerate(entire):
        for name, whole in of_all.effective.items():
            estimates, values = (
                torch.stack([spectra[which].effective[name] for spectra in each])
                for each in (found, exact)
            )
            torch.testing.assert_close(
                estimates, values, rtol=0, atol=0.1 * float((values - whole).abs().max())
            )
            assert float(estimates.std()) == pytest.approx(float(values.std()), rel=0.15), name


def _near(
    entire: Pair, near: CenteredNeighbours, uncentered: UncenteredNeighbours, raw: Averages
) -> tuple[Spectrum, Spectrum]:
    """The uncentred and the centred spectrum near that of all samples."""
    leading = nearby(entire.raw.pairs, raw, 4)
    centered = raw.centered()
    of_centered = nearby(entire.centered.pairs, centered, 4)
    assert leading is not None
    assert of_centered is not None
    found = near.near(centered, of_centered)
    return uncentered.near(raw.phi_size, leading, found), found


def test_leading_eigenpairs_are_found_nearly(folds: list[Moments]) -> None:
    total = total_of(folds)
    entire = spectrum(total.centered_averages(), P)
    rest = total.without(folds[2]).centered_averages()
    exact = solved(rest, P, entire.pairs).pairs
    found = nearby(entire.pairs, rest, 3)
    assert found is not None
    change = (exact.eigenvalues[:3] - entire.pairs.eigenvalues[:3]).abs()
    assert bool(((found.eigenvalues - exact.eigenvalues[:3]).abs() < 0.01 * change).all())


def test_many_leading_eigenpairs_are_solved_for_in_full(folds: list[Moments]) -> None:
    pairs = spectrum(total_of(folds).centered_averages(), P).pairs
    assert is_near_cheaper(10, pairs)
    assert not is_near_cheaper(0, pairs)
    assert not is_near_cheaper(P // 2, pairs)


@pytest.mark.parametrize("scale", [1e-60, 1e60])
def test_intervals_of_many_features_do_not_depend_on_their_scale(scale: float) -> None:
    spread = torch.arange(1, P + 1, dtype=torch.float64) ** -0.4
    phi = 0.3 + normal(N, P, seed=1) * spread
    outputs = phi[:, :3] @ normal(3, 3, seed=2)

    def intervals(features: Tensor) -> dict[str, Any]:
        parts = []
        for part in torch.arange(N).tensor_split(FOLDS):
            moments = Moments.zeros(P, 3)
            moments.update(features[part], outputs[part])
            parts.append(moments)
        return diagnosed(parts, task="classification").confidence_interval

    plain, scaled = intervals(phi), intervals(scale * phi)
    for part in ("effective_rank", "effective_rank.uncentered", "verdict"):
        for name, bounds in plain[part].items():
            assert bounds is None or scaled[part][name] == pytest.approx(bounds, rel=1e-6)


@pytest.mark.parametrize("p", [8, P])
def test_each_step_is_counted(p: int) -> None:
    parts = []
    for part in normal(500, p, seed=3).tensor_split(FOLDS):
        moments = Moments.zeros(p, 2)
        moments.update(part, part[:, :2])
        parts.append(moments)
    seen: list[tuple[int, int]] = []
    diagnose(parts, Model("regression"), on_step=lambda done, total: seen.append((done, total)))
    done, totals = zip(*seen, strict=True)
    assert list(done) == sorted(set(done))
    assert set(totals) == {done[-1]}
    assert len(done) >= FOLDS if p > FEW_FEATURES else len(done) > 2


def test_both_spectra_of_all_samples_are_those_found_one_by_one(folds: list[Moments]) -> None:
    raw = total_of(folds).averages()
    centered = raw.centered()
    done: list[int] = []
    pair = spectra(raw, centered, P, Steps(lambda step, _: done.append(step), 2))
    assert done == [1, 2]
    for found, averages in zip(pair, (raw, centered), strict=True):
        alone = spectrum(averages, P)
        first = float(alone.pairs.eigenvalues[0])
        torch.testing.assert_close(
            found.pairs.eigenvalues, alone.pairs.eigenvalues, atol=1e-14 * first, rtol=0
        )
        torch.testing.assert_close(
            found.pairs.eigenvectors, alone.pairs.eigenvectors, atol=1e-10, rtol=0
        )
        for name, figure in alone.effective.items():
            torch.testing.assert_close(found.effective[name], figure, atol=0, rtol=1e-12)
