"""A layer's figures: those of the penultimate layer, and those of the definitions."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import reduce
from operator import add

import numpy as np
import pytest
import torch
from samples import diagnosed
from torch import Tensor

from workers.diagnostics import Alignment, Moments
from workers.diagnostics.folds import Dealing, Folds
from workers.diagnostics.layer_sums import LAYER_FOLDS, LayerSums
from workers.diagnostics.layers import LayerDiagnosis, diagnose_layer

N, CLASSES = 1300, 5


def network(seed: int = 0) -> tuple[list[Tensor], Tensor, Tensor]:
    """Float32 features of two layers, outputs that the second one gives, and class indicators."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (N,), generator=generator)
    means = torch.randn(CLASSES, 30, generator=generator)
    noise = torch.randn(N, 30, generator=generator) * torch.logspace(0, -2, 30)
    first = torch.relu(means[labels] + noise)
    second = torch.tanh(first @ torch.randn(30, 20, generator=generator) / 5)
    outputs = second @ torch.randn(20, CLASSES, generator=generator) + 1.0
    return [first, second], outputs, torch.nn.functional.one_hot(labels, CLASSES).float()


def summed(
    features: Sequence[Tensor],
    outputs: Tensor,
    targets: Tensor | None,
    batch: int = 100,
    *,
    in_folds: bool = True,
) -> list[list[Moments]]:
    """Moments of each fold of each layer."""
    sums = LayerSums(
        [layer.shape[1] for layer in features],
        n=len(outputs),
        in_folds=[in_folds] * len(features),
    )
    for start in range(0, len(outputs), batch):
        rows = slice(start, start + batch)
        part = None if targets is None else targets[rows]
        sums.update([layer[rows] for layer in features], outputs[rows], part)
    return list(sums.moments())


def figures(features: Sequence[Tensor], outputs: Tensor, targets: Tensor) -> list[LayerDiagnosis]:
    found = [diagnose_layer(folds) for folds in summed(features, outputs, targets)]
    return [diagnosis for diagnosis in found if diagnosis is not None]


@pytest.mark.parametrize("batch", [1, 100, 2000])
@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("in_folds", [True, False])
def test_sums_are_the_moments_of_each_layer(batch: int, *, labelled: bool, in_folds: bool) -> None:
    features, outputs, targets = network()
    labels = targets if labelled else None
    sums = summed(features, outputs, labels, batch, in_folds=in_folds)
    for layer, folds in zip(features, sums, strict=True):
        assert [fold.n for fold in folds] == ([N // LAYER_FOLDS] * LAYER_FOLDS if in_folds else [N])
        found = reduce(add, folds)
        expected = Moments.zeros(layer.shape[1], CLASSES, CLASSES if labelled else 0)
        expected.update(layer, outputs, labels)
        arrays = found.to_arrays()
        assert arrays.keys() == expected.to_arrays().keys()
        for name, values in expected.to_arrays().items():
            np.testing.assert_allclose(arrays[name], values, rtol=1e-12, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_penultimate_layer_has_the_figures_of_the_report(seed: int) -> None:
    features, outputs, targets = network(seed)
    folds = Folds(N)
    folds.update(features[1], outputs, targets)
    report = diagnosed(folds.moments(), task="classification")
    layer = figures(features, outputs, targets)[1]
    pairs = (
        (layer.uncentered, report.spectrum, report.projections),
        (layer.centered, report.spectrum.centered, report.centered_projections),
    )
    for found, spectrum, projections in pairs:
        assert found.rank == spectrum.rank
        scale = spectrum.eigenvalues[0]
        np.testing.assert_allclose(found.eigenvalues, spectrum.eigenvalues, atol=1e-10 * scale)
        for name in ("cumulative_quality", "cumulative_utilization"):
            expected = getattr(projections, name)
            np.testing.assert_allclose(getattr(found, name), expected, atol=1e-10)
    assert layer.effective_rank is not None
    assert report.effective_rank is not None
    assert asdict(layer.effective_rank) == pytest.approx(asdict(report.effective_rank), rel=1e-10)
    assert asdict(layer.alignment) == pytest.approx(asdict(report.alignment), abs=1e-10)
    # Five folds in place of ten: about the same intervals.
    for part in ("alignment", "effective_rank"):
        for name, expected in report.confidence_interval[part].items():
            interval = layer.confidence_interval[name]
            assert expected is not None
            assert interval is not None
            assert 0.4 < (interval[1] - interval[0]) / (expected[1] - expected[0]) < 2.5, name


def test_folds_are_those_of_the_dealing_whatever_the_batches() -> None:
    features, outputs, targets = network()
    dealing = Dealing(N, count=LAYER_FOLDS).deal(N)
    for batch in (1, 100, 2000):
        (folds, _) = summed(features, outputs, targets, batch)
        for number, fold in enumerate(folds):
            rows = features[0][dealing == number].double()
            torch.testing.assert_close(fold.phi_phi, rows.T @ rows, rtol=1e-12, atol=1e-9)


def test_of_fewer_samples_than_features_the_tail_has_no_interval() -> None:
    features, outputs, targets = network()
    some = [layer[:25] for layer in features]
    wide, narrow = map(diagnose_layer, summed(some, outputs[:25], targets[:25]))
    assert wide is not None
    assert narrow is not None
    for name in ("entropy", "rankme", "stable", "d_lr"):
        assert (wide.confidence_interval[name] is None) == (name in ("entropy", "rankme"))
        assert narrow.confidence_interval[name] is not None


def test_without_folds_the_figures_are_the_same_and_have_no_intervals() -> None:
    features, outputs, targets = network()
    for folds, undivided in zip(
        summed(features, outputs, targets),
        summed(features, outputs, targets, in_folds=False),
        strict=True,
    ):
        found, other = diagnose_layer(folds), diagnose_layer(undivided)
        assert found is not None
        assert other is not None
        assert set(found.confidence_interval) == {
            *("participation_ratio", "entropy", "rankme", "stable"),
            *("d_lr", "cka_target", "cka_outputs"),
        }
        assert other.confidence_interval == {}
        assert asdict(found.alignment) == pytest.approx(asdict(other.alignment), abs=1e-12)
        assert found.effective_rank is not None
        assert other.effective_rank is not None
        assert asdict(found.effective_rank) == pytest.approx(asdict(other.effective_rank))


def test_d_lr_compares_a_layers_operator_with_the_networks_outputs() -> None:
    features, outputs, targets = network()
    basis = np.linalg.qr(outputs.double().numpy())[0]
    centering = np.eye(N) - 1 / N
    minimal = centering @ basis @ basis.T @ centering
    for layer, found in zip(features, figures(features, outputs, targets), strict=True):
        phi = layer.double().numpy()
        operator = centering @ phi @ phi.T @ centering
        norms = np.linalg.norm(operator) * np.linalg.norm(minimal)
        assert found.alignment.d_lr == pytest.approx(
            1 - np.sum(operator * minimal) / norms, abs=1e-9
        )


def test_spectra_are_complete_up_to_the_rank() -> None:
    features, outputs, targets = network()
    low = features[0] @ torch.randn(30, 3) @ torch.randn(3, 64)
    (found,) = figures([low], outputs, targets)
    singular = np.linalg.svd(low.double().numpy() / np.sqrt(N), compute_uv=False)
    cut = singular[0] * N * np.finfo(np.float32).eps
    assert found.uncentered.rank == (singular > cut).sum() == 3
    np.testing.assert_allclose(found.uncentered.eigenvalues, singular[:3] ** 2, rtol=1e-9)


def test_constant_and_dead_layers_have_what_can_be_said_of_them() -> None:
    _, outputs, targets = network()
    constant, dead = torch.full((N, 4), 0.3), torch.zeros(N, 4)
    first, second = figures([constant, dead], outputs, targets)
    assert (first.uncentered.rank, first.centered.rank) == (1, 0)
    assert (second.uncentered.rank, second.centered.rank) == (0, 0)
    assert first.uncentered.eigenvalues[0] == pytest.approx(4 * 0.09)
    for found in (first, second):
        assert found.effective_rank is None
        assert found.alignment == Alignment(None, None, None)
        assert set(found.confidence_interval.values()) == {None}
        assert found.centered.eigenvalues.shape == (0,)
        assert found.centered.cumulative_utilization.shape == (0,)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e200])
def test_layers_that_are_not_finite_have_no_figures(value: float) -> None:
    features, outputs, targets = network()
    broken = features[0].double()
    broken[7, 3] = value
    found = [diagnose_layer(m) for m in summed([broken, features[1]], outputs, targets)]
    assert found[0] is None
    assert found[1] is not None


def test_without_targets_only_what_needs_them_is_missing() -> None:
    features, outputs, _ = network()
    found = diagnose_layer(summed(features, outputs, None)[0])
    assert found is not None
    assert found.uncentered.cumulative_quality is None
    assert found.alignment.cka_target is found.confidence_interval["cka_target"] is None
    assert found.alignment.d_lr is not None
