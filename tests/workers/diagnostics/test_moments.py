from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save
from samples import diagnosed, measured
from torch import Tensor

from workers.diagnostics import (
    Diagnosis,
    IncompatibleShapesError,
    Moments,
    NonFiniteError,
    Performance,
)

N, P, C = 60, 7, 3


def _batch(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    phi = torch.randn(N, P, generator=generator).relu()
    outputs = torch.randn(N, C, generator=generator)
    return phi, outputs, torch.eye(C)[torch.randint(0, C, (N,), generator=generator)]


def _sums(*arrays: Tensor) -> Moments:
    moments = Moments.zeros(P, C, C)
    moments.update(*arrays)
    return moments


def _assert_equal(first: Moments, second: Moments, *, rtol: float = 0.0) -> None:
    left, right = first.to_arrays(), second.to_arrays()
    assert left.keys() == right.keys()
    for name, values in left.items():
        # Sums that cancel are compared on the scale of what was summed.
        scale = rtol * float(np.abs(values).max(initial=1.0))
        np.testing.assert_allclose(values, right[name], rtol=rtol, atol=scale, err_msg=name)


def test_sums_are_what_their_names_say() -> None:
    phi, outputs, targets = (a.double().numpy() for a in _batch(0))
    arrays = _sums(*_batch(0)).to_arrays()
    named = {"phi": phi, "f": outputs, "y": targets}
    assert arrays["n"] == N
    for name, values in named.items():
        np.testing.assert_allclose(arrays[name], values.sum(0), rtol=1e-13, atol=1e-13)
    for pair in ("phi_phi", "f_f", "y_y", "phi_f", "phi_y", "f_y"):
        left, right = pair.split("_")
        expected = named[left].T @ named[right]
        np.testing.assert_allclose(arrays[pair], expected, rtol=1e-13, atol=1e-12)


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 1000),
    cuts=st.lists(st.integers(0, N), max_size=8).map(sorted),
    order=st.randoms(use_true_random=False),
)
def test_any_split_of_the_samples_merges_to_the_same_sums(
    seed: int, cuts: list[int], order: np.random.Generator
) -> None:
    arrays = _batch(seed)
    bounds = [0, *cuts, N]
    parts = [_sums(*(a[start:stop] for a in arrays)) for start, stop in pairwise(bounds)]
    order.shuffle(parts)
    merged = Moments.zeros(P, C, C)
    for part in parts:
        merged = merged + part
    _assert_equal(merged, _sums(*arrays), rtol=1e-12)
    _assert_equal(merged.without(parts[0]) + parts[0], merged, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_any_float_is_accumulated_in_float64(dtype: torch.dtype) -> None:
    phi, outputs, targets = (a.to(dtype) for a in _batch(1))
    _assert_equal(
        _sums(phi, outputs, targets), _sums(phi.double(), outputs.double(), targets.double())
    )


def test_arrays_survive_a_safetensors_file() -> None:
    moments = _sums(*_batch(2))
    restored = Moments.from_arrays(load(save(moments.to_arrays())))
    assert restored.n == N
    _assert_equal(restored, moments)


def test_arrays_that_are_no_moments_are_refused() -> None:
    arrays = _sums(*_batch(2)).to_arrays()
    with pytest.raises(IncompatibleShapesError, match="phi_f missing"):
        Moments.from_arrays({k: v for k, v in arrays.items() if k != "phi_f"})
    with pytest.raises(IncompatibleShapesError, match=r"phi_phi has shape \(2, 2\), expected"):
        Moments.from_arrays(arrays | {"phi_phi": np.eye(2)})
    with pytest.raises(NonFiniteError, match="f_f"):
        Moments.from_arrays(arrays | {"f_f": np.full((C, C), np.nan)})


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize(("place", "name"), [(0, "features"), (1, "outputs"), (2, "targets")])
def test_a_batch_that_is_not_finite_is_named_and_not_added(
    bad: float, place: int, name: str
) -> None:
    moments = _sums(*_batch(3))
    arrays = list(_batch(4))
    arrays[place][5, 1] = bad
    with pytest.raises(NonFiniteError, match=f"The {name} of 1 of 60 samples in a batch hold NaN"):
        moments.update(*arrays)
    _assert_equal(moments, _sums(*_batch(3)))


def test_shapes_that_do_not_fit_are_refused() -> None:
    phi, outputs, targets = _batch(5)
    moments = Moments.zeros(P, C, C)
    with pytest.raises(IncompatibleShapesError, match=r"features .* \(60, 6\), expected \(60, 7\)"):
        moments.update(phi[:, 1:], outputs, targets)
    with pytest.raises(IncompatibleShapesError, match=r"outputs .* \(59, 3\), expected \(60, 3\)"):
        moments.update(phi, outputs[1:], targets)
    with pytest.raises(IncompatibleShapesError, match=r"targets .* \(60, 0\), expected \(60, 3\)"):
        moments.update(phi, outputs)
    with pytest.raises(IncompatibleShapesError, match="at least one feature"):
        Moments.zeros(0, C, C)


def _diagnose(phi: Tensor, outputs: Tensor, targets: Tensor) -> Diagnosis:
    folds = [_sums(*(a[i::5] for a in (phi, outputs, targets))) for i in range(5)]
    return diagnosed(folds, task="classification")


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 1000), scale=st.floats(1e-6, 1e6))
def test_figures_are_shares_and_ignore_rotation_and_scale_of_the_features(
    seed: int, scale: float
) -> None:
    phi, _, targets = (a.double() for a in _batch(seed))
    generator = torch.Generator().manual_seed(seed)
    outputs = phi @ torch.randn(P, C, generator=generator).double()
    rotation = torch.linalg.qr(torch.randn(P, P, generator=generator).double())[0]
    plain = _diagnose(phi, outputs, targets)
    turned = _diagnose(scale * phi @ rotation, outputs, targets)
    for projections in (plain.projections, plain.centered_projections):
        for vector in (
            projections.quality,
            projections.utilization,
            projections.cumulative_quality,
            projections.cumulative_utilization,
        ):
            assert vector is not None
            assert ((vector >= 0) & (vector <= 1)).all()
        assert (np.diff(projections.cumulative_utilization) >= 0).all()
        # The outputs are linear in the features, so all eigenfunctions together hold all of them.
        assert projections.cumulative_utilization[-1] == pytest.approx(1)
    np.testing.assert_allclose(turned.spectrum.relative, plain.spectrum.relative, rtol=1e-8)
    np.testing.assert_allclose(
        turned.projections.cumulative_utilization[-1],
        plain.projections.cumulative_utilization[-1],
        atol=1e-9,
    )
    for name in ("energy", "distance", "shape"):
        assert getattr(turned.verdict.minimality, name) == pytest.approx(
            getattr(plain.verdict.minimality, name), abs=1e-8
        )
    assert turned.alignment.d_lr == pytest.approx(plain.alignment.d_lr, abs=1e-8)


def test_performance_adds_and_equals_the_whole() -> None:
    _, outputs, targets = _batch(6)
    whole = measured(outputs, targets, "classification")
    parts = Performance()
    for start in range(0, N, 7):
        rows = slice(start, start + 7)
        parts = parts + measured(outputs[rows], targets[rows], "classification")
    labels = targets.argmax(1)
    expected = torch.nn.functional.cross_entropy(outputs.double(), labels)
    assert parts.accuracy == whole.accuracy == float((outputs.argmax(1) == labels).double().mean())
    assert parts.loss == pytest.approx(float(expected))


def test_performance_of_one_logit_is_logistic() -> None:
    logits = torch.tensor([[2.0], [-1.0], [0.5]])
    found = measured(logits, torch.eye(2)[[1, 0, 0]], "classification")
    assert found.accuracy == pytest.approx(2 / 3)
    labels = torch.tensor([[1.0], [0.0], [0.0]])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
    assert found.loss == pytest.approx(float(expected))


def test_performance_of_a_regression_is_its_mean_squared_error() -> None:
    outputs, targets = (
        torch.tensor([[1.0, 2.0], [0.0, 0.0]]),
        torch.tensor([[0.0, 2.0], [0.0, 2.0]]),
    )
    found = Performance() + measured(outputs, targets, "regression")
    assert found.accuracy is None
    assert found.loss == pytest.approx(1.25)
    with pytest.raises(IncompatibleShapesError, match="one target for each output"):
        measured(outputs, targets[:, :1], "regression")


def test_a_probe_with_more_classes_than_outputs_is_refused() -> None:
    with pytest.raises(IncompatibleShapesError, match="name 4 classes, the model tells 2 apart"):
        measured(torch.zeros(4, 2), torch.eye(4), "classification")
