"""Fewer samples than features: the dual problem gives the figures of the primal one."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from samples import Sample, minimal, normal

from workers.diagnostics import Diagnosis, NonFiniteError, unexplained
from workers.diagnostics.folds import Folds


def wide(n: int = 120, p: int = 200, *, balanced: bool = False) -> Sample:
    """ReLU features of a wide dynamic range, float32 as networks give them."""
    counts = torch.tensor([n // 2, n // 3, n - n // 2 - n // 3])
    found = minimal(counts, p=p, noise=2.0, balanced=balanced)
    phi = ((found.phi + 0.1) * torch.logspace(0, -3, p, dtype=torch.float64)).relu().float()
    outputs = phi @ normal(p, 3, seed=5).float()
    return replace(found, phi=phi, outputs=outputs)


def assert_same_figures(dual: Diagnosis, primal: Diagnosis) -> None:
    for found, expected in (
        (dual.spectrum, primal.spectrum),
        (dual.spectrum.centered, primal.spectrum.centered),
    ):
        assert found.rank == expected.rank
        strong = expected.relative > 1e-8
        np.testing.assert_allclose(
            found.eigenvalues[strong], expected.eigenvalues[strong], rtol=1e-10
        )
    assert dual.spectrum.trace == pytest.approx(primal.spectrum.trace, rel=1e-12)
    for found_p, expected_p in (
        (dual.projections, primal.projections),
        (dual.centered_projections, primal.centered_projections),
    ):
        for name, value in asdict(expected_p).items():
            np.testing.assert_allclose(getattr(found_p, name), value, atol=1e-9, err_msg=name)
    assert asdict(dual.alignment) == pytest.approx(asdict(primal.alignment), abs=1e-10)
    first, second = dual.verdict, primal.verdict
    assert asdict(first.minimality) == pytest.approx(asdict(second.minimality), abs=1e-9)
    assert (first.regime, first.warnings) == (second.regime, second.warnings)
    for name, interval in second.confidence_interval.items():
        assert first.confidence_interval[name] == pytest.approx(interval, abs=1e-7), name
    np.testing.assert_allclose(dual.eigenvectors, primal.eigenvectors, atol=1e-6)


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("batch", [1, 64, 120])
def test_dual_and_primal_agree(batch: int, *, balanced: bool) -> None:
    sample = wide(balanced=balanced)
    assert_same_figures(sample.dealt(batch), sample.primal())


def test_no_interval_is_given_for_what_the_weakest_eigenfunctions_decide() -> None:
    """Samples bound these figures, so that they say nothing of the population's."""
    few, enough = wide().dealt(), wide(300).dealt()
    assert few.confidence_interval["verdict"]["k95_energy"] is None
    assert enough.confidence_interval["verdict"]["k95_energy"] is not None
    for part in ("effective_rank", "effective_rank.uncentered"):
        for name, interval in few.confidence_interval[part].items():
            assert (interval is None) == (name in ("entropy", "rankme"))
        assert None not in enough.confidence_interval[part].values()
    for part in ("spectrum", "spectrum.centered"):
        assert few.confidence_interval[part]["rank"] is None
        assert enough.confidence_interval[part]["rank"] is not None
    for name in ("utilization_tapered", "energy", "distance"):
        assert few.confidence_interval["verdict"][name] is not None


def test_samples_that_repeat_lower_the_rank_alone() -> None:
    once = wide(60)
    twice = Sample(*(torch.cat([each, each]) for each in (once.phi, once.outputs, once.targets)))
    dual = twice.dealt()
    assert dual.spectrum.rank == 60
    assert_same_figures(dual, twice.primal())


def test_units_that_are_dead_constant_or_alike_change_nothing() -> None:
    sample = wide()
    phi = torch.cat([torch.zeros(120, 3), sample.phi, torch.ones(120, 2), sample.phi[:, :9]], 1)
    changed = replace(sample, phi=phi)
    dual = changed.dealt()
    assert_same_figures(dual, changed.primal())
    assert np.abs(dual.eigenvectors[:3]).max() < 1e-12


@pytest.mark.parametrize("still", ["dead", "constant"])
def test_units_that_vary_are_counted_among_the_features(still: str) -> None:
    """Collapsed features: rank r, and room for more in as many units as vary."""
    counts = torch.full((5,), 24)
    collapsed = minimal(counts, p=300, noise=0.0)
    phi = collapsed.phi * (torch.arange(300) >= 190)
    changed = replace(collapsed, phi=phi + 0.3 if still == "constant" else phi)
    dual, primal = changed.dealt().verdict, changed.primal().verdict
    assert dual.minimality.rank == 4
    assert dual.minimality.utilization_corrected == pytest.approx(
        primal.minimality.utilization_corrected, abs=1e-9
    )
    assert dual.regime == primal.regime == "MF"
    # 119 samples tell no more units apart; with 6 units that vary there is no room for 2r.
    narrow = replace(changed, phi=torch.where(torch.arange(300) < 294, phi[:, :1], phi))
    for verdict in (narrow.dealt().verdict, narrow.primal().verdict):
        assert verdict.regime == "undetermined"
        assert "the features could use only 4." in verdict.reasons[0]


def test_thousands_of_features_are_solved_as_the_smaller_problem() -> None:
    sample = wide(300, 16_384)
    found = sample.dealt()
    singular = np.linalg.svd(sample.phi.double().numpy() / 300**0.5, compute_uv=False)
    cut = singular[0] * 16_384 * np.finfo(np.float32).eps
    assert found.spectrum.rank == (singular > cut).sum()
    expected = singular[: found.spectrum.rank] ** 2
    np.testing.assert_allclose(found.spectrum.eigenvalues, expected, rtol=1e-8)
    values = sample.phi.double().numpy() @ found.eigenvectors / np.sqrt(found.spectrum.eigenvalues)
    gram = values.T @ values / 300
    np.testing.assert_allclose(gram, np.eye(found.spectrum.rank), atol=1e-8)
    assert any("Fewer samples (300) than features (16384)" in w for w in found.verdict.warnings)


def test_as_many_samples_as_features_are_summed() -> None:
    sample = wide(200, 200)
    folds = Folds(200)
    folds.update(sample.phi, sample.outputs, sample.targets)
    assert folds.moments()[0].p == 200
    assert folds.basis is None


def test_with_fewer_samples_than_features_no_residual_can_be_told() -> None:
    sample = wide()
    folds = Folds(120)
    folds.update(sample.phi, sample.outputs, sample.targets)
    total = folds.moments()[0]
    for fold in folds.moments()[1:]:
        total = total + fold
    assert folds.basis is not None
    assert folds.basis.shape == (200, 120)
    assert unexplained(total) is None


def test_features_that_are_not_finite_are_refused_with_their_batch() -> None:
    sample = wide()
    phi = sample.phi.clone()
    phi[70, 3] = torch.inf
    with pytest.raises(NonFiniteError, match="features of 1 of 56 samples"):
        replace(sample, phi=phi).dealt(64)


@pytest.mark.parametrize("scale", [1e-100, 1e-6, 1e6, 1e100])
def test_the_scale_of_features_changes_no_share(scale: float) -> None:
    sample = wide()
    plain, scaled = sample.dealt(), replace(sample, phi=scale * sample.phi.double()).dealt()
    np.testing.assert_allclose(scaled.spectrum.relative, plain.spectrum.relative, rtol=1e-7)
    assert asdict(scaled.verdict.minimality) == pytest.approx(
        asdict(plain.verdict.minimality), abs=1e-9
    )
