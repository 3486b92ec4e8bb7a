"""Samples with several labels: truth is taken from running the model, and from scikit-learn."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from analysed import Network, analysed
from sklearn.metrics import accuracy_score, average_precision_score, balanced_accuracy_score
from torch import Tensor
from torch.nn import functional

from workers.protocol.errors import JobError

N, INPUTS, L = 500, 12, 3
RNG = np.random.default_rng(1)
X = RNG.standard_normal((N, INPUTS), dtype=np.float32)
SPEC = {"task": "multilabel"}

LINKS: dict[str, tuple[Callable[[Tensor], Tensor], str, Callable[[Tensor], Tensor] | None]] = {
    # The link, what the answer is, and what makes probabilities of it.
    "logits": (lambda u: u, "logits", torch.sigmoid),
    "sigmoid": (torch.sigmoid, "probabilities of each output", lambda f: f),
    "1 - sigmoid": (
        lambda u: 1 - torch.sigmoid(u),
        "probabilities of each output",
        lambda f: f,
    ),
    "log sigmoid": (functional.logsigmoid, "log-probabilities of each output", torch.exp),
    "a label smoothed sigmoid": (
        lambda u: 0.9 * torch.sigmoid(u) + 0.05,
        "probabilities of each output",
        lambda f: f,
    ),
    "softmax": (lambda u: u.softmax(1), "probabilities of classes", lambda f: f),
    "tanh": (torch.tanh, "signed scores", None),
}


def multi_hot(model: Network, threshold: float) -> np.ndarray:
    """What the model says, wrong in a tenth of all cases."""
    said = model.answers(X).numpy() >= threshold
    labels: np.ndarray = said ^ (RNG.random(said.shape) < 0.1)
    return labels


def threshold_of(name: str) -> float:
    return {"logits": 0.0, "tanh": 0.0, "log sigmoid": float(np.log(0.5))}.get(name, 0.5)


def check(found: dict[str, Any], f: Tensor, labels: np.ndarray, name: str) -> None:
    """The figures of the answers against what scikit-learn makes of them."""
    probability = LINKS[name][2]
    said = f.numpy() >= threshold_of(name)
    assert found["accuracy"] == pytest.approx((said == labels).mean())
    assert found["subset_accuracy"] == accuracy_score(labels, said)
    precision = average_precision_score(labels, f.numpy(), average="macro")
    assert found["average_precision"] == pytest.approx(precision, abs=1e-9)
    if probability is None:
        assert (found["loss"], found["loss_kind"]) == (None, None)
        return
    truth = torch.from_numpy(labels).double()
    loss = functional.binary_cross_entropy(probability(f).clamp(0, 1), truth)
    assert found["loss"] == pytest.approx(float(loss), rel=1e-4)
    assert found["loss_kind"] == "binary_cross_entropy"


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
@pytest.mark.parametrize("name", LINKS)
def test_several_labels(name: str, dtype: str) -> None:
    model = Network(INPUTS, L, LINKS[name][0], gain=2.0)
    labels = multi_hot(model, threshold_of(name))
    probe = {"x": X, "y": labels.astype(dtype)}
    found = analysed(model, probe, eval_probe=probe, spec=SPEC)
    f = model.answers(X)
    assert found["probe"]["task"] == found["held_out"]["probe"]["task"] == "multilabel"
    assert found["probe"]["class_counts"] == labels.sum(0).tolist()
    assert found["feature_map"]["answer"] == LINKS[name][1]
    check(found["performance"], f, labels, name)
    check(found["held_out"]["performance"], f, labels, name)
    said = f.numpy() >= threshold_of(name)
    skill = np.mean(
        [balanced_accuracy_score(labels[:, j], said[:, j], adjusted=True) for j in range(L)]
    )
    assert found["verdict"]["assessment"]["skill"] == pytest.approx(skill)
    assert found["neural_collapse"] is None
    whole = found["compression"][-1]
    assert whole["agreement"] >= 1 - 2 / N
    assert whole["accuracy"] == pytest.approx((said == labels).mean(), abs=2 / N)
    for figure in ("accuracy", "subset_accuracy", "average_precision"):
        for part in (found["performance"], found["held_out"]):
            low, high = part["confidence_interval"][figure]
            assert low < found["performance"][figure] < high
    low, high = found["verdict"]["assessment"]["confidence_interval"]["skill"]
    assert low < skill < high


def test_the_verdict_keeps_the_mean_output() -> None:
    """A sigmoid sees the mean of its outputs, so all three of them count."""
    model = Network(INPUTS, L, torch.sigmoid, gain=2.0)
    labels = multi_hot(model, 0.5)
    found = analysed(model, {"x": X, "y": labels}, spec=SPEC)
    assert found["verdict"]["minimality"]["rank"] == L
    phi = model.phi(torch.from_numpy(X)).detach().double()
    u = phi @ model.head.weight.detach().double().T + model.head.bias.detach().double()
    left = torch.linalg.svd(phi - phi.mean(0), full_matrices=False)[0]
    basis = torch.linalg.qr(u - u.mean(0))[0]
    utilization = float((basis.T @ left[:, :L]).square().sum()) / L
    assert found["verdict"]["minimality"]["utilization"] == pytest.approx(utilization, rel=1e-5)
    as_classes = analysed(model, {"x": X, "y": RNG.integers(0, L, N)})
    assert as_classes["verdict"]["minimality"]["rank"] == L - 1


def test_the_target_space_is_that_of_the_labels_columns() -> None:
    model = Network(INPUTS, 5, torch.sigmoid)
    first = RNG.random((N, 3)) < (0.1, 0.4, 0.9)
    labels = np.column_stack([first, first[:, 1], np.zeros(N, bool)])  # one again, and one of none
    found = analysed(model, {"x": X, "y": labels}, spec=SPEC)
    assert found["projections"]["dim_target"] == 3
    phi = model.phi(torch.from_numpy(X)).detach().double().numpy()
    for part, remove in (
        (found["projections"], lambda values: values),
        (found["projections"]["centered"], lambda values: values - values.mean(0)),
    ):
        basis = np.linalg.qr(remove(first.astype(float)))[0]
        left = np.linalg.svd(remove(phi), full_matrices=False)[0]
        quality = ((basis.T @ left) ** 2).sum(0)
        np.testing.assert_allclose(part["quality"], quality[: len(part["quality"])], atol=1e-5)
    assert any("1 of 5 labels have no sample" in w for w in found["verdict"]["warnings"])
    assert any("Label imbalance" in w for w in found["verdict"]["warnings"])


def test_the_chance_level_is_what_shuffled_labels_reach() -> None:
    model = Network(INPUTS, 4, torch.sigmoid)
    common = RNG.random(N) < 0.5
    labels = (RNG.random((N, 4)) < 0.3) | common[:, None]  # dependent, and far from one-hot
    found = analysed(model, {"x": X, "y": labels}, spec=SPEC)
    phi = model.phi(torch.from_numpy(X)).detach().double().numpy()
    left = np.linalg.svd(phi, full_matrices=False)[0]
    shuffled = []
    for _ in range(400):
        basis = np.linalg.qr(labels[RNG.permutation(N)].astype(float))[0]
        shuffled.append(((basis.T @ left) ** 2).sum(0).cumsum() / 4)
    expected = np.mean(shuffled, axis=0)
    chance = found["projections"]["quality_chance_level"]
    np.testing.assert_allclose(chance, expected[: len(chance)], atol=2e-3)


@pytest.mark.parametrize("one_label", [True, False])
def test_balanced_labels(one_label: bool) -> None:
    model = Network(INPUTS, L, torch.sigmoid)
    hot = np.eye(L, dtype=np.float32)[RNG.choice(L, N, p=(0.7, 0.25, 0.05))]
    labels = hot if one_label else np.maximum(hot, RNG.random((N, L)) < (0.0, 0.3, 0.1))
    labels = labels * (RNG.random((N, 1)) < (1.0 if one_label else 0.8))
    found = analysed(model, {"x": X, "y": labels}, spec=SPEC, class_weighting="balanced")
    none = labels.sum(1) == 0
    counts = labels.sum(0)
    occur = L + bool(none.any())
    weights = np.array(
        [
            N / (occur * none.sum()) if none[i] else (N / (occur * counts[row > 0])).mean()
            for i, row in enumerate(labels)
        ]
    )
    phi = model.phi(torch.from_numpy(X)).detach().double().numpy()
    mean = weights @ phi / weights.sum()
    centred = (phi - mean) * np.sqrt(weights / weights.sum())[:, None]
    eigenvalues = np.linalg.svd(centred, compute_uv=False) ** 2
    np.testing.assert_allclose(
        found["spectrum"]["centered"]["eigenvalues"][:5], eigenvalues[:5], rtol=1e-5
    )
    if one_label:
        classes = {"x": X, "y": labels.argmax(1)}
        alike = analysed(model, classes, class_weighting="balanced")
        np.testing.assert_allclose(
            found["spectrum"]["eigenvalues"], alike["spectrum"]["eigenvalues"]
        )
        np.testing.assert_allclose(
            found["projections"]["quality_chance_level"],
            alike["projections"]["quality_chance_level"],
        )


def test_outputs_that_are_not_the_labels_are_refused() -> None:
    model = Network(INPUTS, 4, torch.sigmoid)
    probe = {"x": X, "y": RNG.integers(0, 2, (N, L))}
    with pytest.raises(JobError) as caught:
        analysed(model, probe, spec=SPEC)
    failure = caught.value.failure
    assert failure.code == "input_mismatch"
    assert "4 outputs and the probe 3 labels" in failure.message
    assert '"target": null' in str(failure.hint)
    assert analysed(model, probe, spec={"target": None})["performance"]["accuracy"] is None


def test_positives_cannot_be_told_of_an_answer_without_a_sign() -> None:
    model = Network(INPUTS, L, torch.abs)
    found = analysed(model, {"x": X, "y": RNG.integers(0, 2, (N, L))}, spec=SPEC)
    performance = found["performance"]
    assert (performance["accuracy"], performance["subset_accuracy"]) == (None, None)
    assert performance["average_precision"] is not None
    codes = {warning.partition(":")[0] for warning in found["feature_map"]["warnings"]}
    assert {"no_loss", "no_accuracy"} <= codes


def test_layers_are_measured_against_the_labels_columns() -> None:
    model = Network(INPUTS, L, torch.sigmoid)
    labels = RNG.random((N, L)) < (0.2, 0.5, 0.7)
    found = analysed(model, {"x": X, "y": labels}, spec=SPEC, layers="all")
    layer = found["layers"][-1]
    for mine, whole in zip(
        layer["cumulative_quality"], found["projections"]["cumulative_quality"], strict=True
    ):
        assert mine == pytest.approx(whole, abs=1e-6)
    assert layer["cka_target"] == pytest.approx(found["alignment"]["cka_target"])


def test_an_eval_probe_may_lack_labels() -> None:
    model = Network(INPUTS, L, torch.sigmoid)
    labels = RNG.random((N, L)) < 0.5
    found = analysed(model, {"x": X, "y": labels}, eval_probe={"x": X[:100]}, spec=SPEC)
    performance = found["held_out"]["performance"]
    assert set(performance.values()) == {None}
    assert found["held_out"]["minimality"]["rank"] == L


def test_two_probes_of_other_tasks_are_refused() -> None:
    model = Network(INPUTS, L, torch.sigmoid)
    classes = {"x": X, "y": RNG.integers(0, L, N)}
    with pytest.raises(JobError) as caught:
        analysed(
            model,
            {"x": X, "y": RNG.integers(0, 2, (N, L))},
            eval_probe=classes,
            spec=SPEC,
            eval_spec={"task": "classification"},
        )
    assert "of a classification, those of the probe of a multilabel" in caught.value.failure.message
    assert caught.value.failure.hint
