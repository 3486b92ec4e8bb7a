"""The compression curve, against networks that are really cut down to k features."""

import numpy as np
import pytest
import torch
from samples import diagnosed as diagnose
from samples import kept_rows, normal, told

from workers.diagnostics import Diagnosis, Moments, Rows
from workers.diagnostics.compression import _Compressed
from workers.diagnostics.performance import Task

N, P, C = 600, 45, 5


def network(outputs: int = C) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features with a mean, outputs with a bias, labels."""
    generator = torch.Generator().manual_seed(outputs)
    labels = torch.arange(N) % max(outputs, 2)
    scale = torch.logspace(0, -1.5, P)
    phi = torch.relu(
        torch.randn(max(outputs, 2), P, generator=generator)[labels]
        + torch.randn(N, P, generator=generator) * scale
    )
    head = torch.randn(outputs, P, generator=generator)
    return phi, phi @ head.T + torch.randn(outputs, generator=generator), labels


def diagnosed(
    phi: torch.Tensor, outputs: torch.Tensor, targets: torch.Tensor | None, task: Task, rows: Rows
) -> Diagnosis:
    folds = []
    for part in torch.arange(len(phi)).tensor_split(10):
        moments = Moments.zeros(P, outputs.shape[1], 0 if targets is None else targets.shape[1])
        moments.update(phi[part], outputs[part], None if targets is None else targets[part])
        folds.append(moments)
    return diagnose(folds, task=task, rows=rows)


@pytest.mark.parametrize("outputs", [1, C])
def test_each_point_is_the_network_projected_on_k_eigenfunctions(outputs: int) -> None:
    phi, f, labels = network(outputs)
    targets = torch.eye(max(outputs, 2))[labels]
    rows = kept_rows(phi, f, labels)
    curve = diagnosed(phi, f, targets, "classification", rows).compression

    x, logits = phi.double().numpy(), f.double().numpy()
    left, singular, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    deviations = logits - logits.mean(0)
    steps = [point.k for point in curve]
    assert steps[:33] == list(range(33))
    assert steps == sorted(set(steps))
    assert steps[-1] == (singular > 1e-4 * singular[0]).sum()
    for point in curve:
        basis = left[:, : point.k]
        kept = basis @ (basis.T @ deviations)
        decided = told(torch.from_numpy(logits.mean(0) + kept)).numpy()
        assert point.accuracy == pytest.approx((decided == labels.numpy()).mean(), abs=2 / N)
        assert point.agreement == pytest.approx((decided == told(f).numpy()).mean(), abs=2 / N)
        error = deviations - kept
        if outputs > 1:  # softmax does not see the mean logit
            error = error - error.mean(1, keepdims=True)
            whole = deviations - deviations.mean(1, keepdims=True)
        else:
            whole = deviations
        expected = np.linalg.norm(error) / np.linalg.norm(whole)
        assert point.output_error == pytest.approx(expected, abs=1e-6)
    assert curve[-1].agreement == 1.0
    assert curve[0].output_error == 1.0


def test_regression_has_an_error_and_no_answers() -> None:
    phi, f, _ = network()
    curve = diagnosed(phi, f, f.clone(), "regression", Rows(phi, None, None)).compression
    assert {(point.accuracy, point.agreement) for point in curve} == {(None, None)}
    assert curve[-1].output_error == pytest.approx(0.0, abs=1e-6)


def test_without_labels_the_answers_still_agree() -> None:
    phi, f, _ = network()
    curve = diagnosed(phi, f, None, "classification", kept_rows(phi, f, None)).compression
    assert {point.accuracy for point in curve} == {None}
    assert curve[-1].agreement == 1.0


def test_constant_outputs_have_no_curve_and_constant_features_one_point() -> None:
    phi, f, labels = network()
    targets = torch.eye(C)[labels]
    constant = f[:1].expand(N, -1)
    rows = kept_rows(phi, constant, labels)
    assert diagnosed(phi, constant, targets, "classification", rows).compression == ()
    same = torch.ones_like(phi)
    rows = kept_rows(same, f, labels)
    (point,) = diagnosed(same, f, targets, "classification", rows).compression
    assert (point.k, point.output_error) == (0, 1.0)


@pytest.mark.parametrize(
    ("p", "steps"), [(12, [0, 1, 2, 7, 12]), (40, [0, 1, 31, 32, 33, 40])], ids=["few", "many"]
)
def test_outputs_of_each_k_are_the_same_together_and_in_turn(p: int, steps: list[int]) -> None:
    vectors = torch.linalg.qr(normal(p, p, seed=1))[0]
    weights, mean, features = normal(p, 5, seed=2), normal(5, seed=3), normal(30, p, seed=4)
    together = _Compressed(vectors, weights, mean, steps)
    in_turn = _Compressed(vectors, weights, mean, steps)
    in_turn._inwards = None
    found = features.new_full((30, len(steps), 5), torch.nan)
    for some, outputs in together.outputs(features):
        found[:, some] = outputs
    for step, outputs in in_turn.outputs(features):
        torch.testing.assert_close(found[:, step], outputs)
    whole = (features @ vectors) @ weights + mean
    torch.testing.assert_close(found[:, -1], whole)
