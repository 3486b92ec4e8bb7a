"""Accuracy, loss and skill are of what the model returns: truth is taken from running it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from analysed import Network, analysed
from torch import Tensor
from torch.nn import functional

N, INPUTS = 400, 12
RNG = np.random.default_rng(0)
X = RNG.standard_normal((N, INPUTS), dtype=np.float32)

Truth = Callable[[Tensor, Tensor], Tensor]
"""Loss of each row, from the model's answers and the labels."""


def _nll(f: Tensor, y: Tensor) -> Tensor:
    return -f.log().gather(1, y[:, None])[:, 0]


def _bernoulli(f: Tensor, y: Tensor) -> Tensor:
    p = torch.where(y > 0, f[:, 0], 1 - f[:, 0])
    return -p.log()


def _each_output(f: Tensor, y: Tensor) -> Tensor:
    hot = functional.one_hot(y, f.shape[1]).double()
    return functional.binary_cross_entropy(f, hot, reduction="none").mean(1)


def _log_softmax(f: Tensor, y: Tensor) -> Tensor:
    return -f.gather(1, y[:, None])[:, 0]


def _logits(f: Tensor, y: Tensor) -> Tensor:
    return functional.cross_entropy(f, y, reduction="none")


@dataclass
class Case:
    """A link, what its answer is, from where on a single output says yes, and its loss."""

    link: Callable[[Tensor], Tensor]
    outputs: int
    answer: str
    kind: str | None
    loss: Truth | None
    threshold: float | None = None


CASES = {
    "logits": Case(lambda u: u, 4, "logits", "cross_entropy", _logits),
    "negated logits": Case(lambda u: -u, 4, "logits", "cross_entropy", _logits),
    "softmax": Case(lambda u: u.softmax(1), 4, "probabilities of classes", "cross_entropy", _nll),
    "softmax, kept from 0": Case(
        lambda u: u.softmax(1).clamp(1e-6, 1.0),
        4,
        "probabilities of classes",
        "cross_entropy",
        _nll,
    ),
    "log softmax": Case(
        lambda u: u.log_softmax(1), 4, "log-probabilities of classes", "cross_entropy", _log_softmax
    ),
    "log of softmax of log softmax": Case(
        lambda u: u.log_softmax(1).softmax(1).log(),
        4,
        "log-probabilities of classes",
        "cross_entropy",
        _log_softmax,
    ),
    "capped logits": Case(lambda u: 30 * torch.tanh(u / 30), 4, "logits", "cross_entropy", _logits),
    "a sigmoid for each class": Case(
        torch.sigmoid, 4, "probabilities of each output", "binary_cross_entropy", _each_output
    ),
    "1 - sigmoid for each class": Case(
        lambda u: 1 - torch.sigmoid(u),
        4,
        "probabilities of each output",
        "binary_cross_entropy",
        _each_output,
    ),
    "tanh": Case(torch.tanh, 4, "signed scores", None, None),
    "abs": Case(torch.abs, 4, "scores", None, None),
    "relu": Case(torch.relu, 4, "scores", None, None),
    "square": Case(torch.square, 4, "scores", None, None),
    "a logit": Case(
        lambda u: u,
        1,
        "logits",
        "binary_cross_entropy",
        lambda f, y: _bernoulli(f.sigmoid(), y),
        0.0,
    ),
    "a sigmoid": Case(
        torch.sigmoid, 1, "probabilities of each output", "binary_cross_entropy", _bernoulli, 0.5
    ),
    "1 - sigmoid": Case(
        lambda u: 1 - torch.sigmoid(u),
        1,
        "probabilities of each output",
        "binary_cross_entropy",
        _bernoulli,
        0.5,
    ),
    "a hard sigmoid": Case(
        functional.hardsigmoid,
        1,
        "probabilities of each output",
        "binary_cross_entropy",
        lambda f, y: _bernoulli(f.clamp(torch.finfo(torch.float32).tiny, 1), y),
        0.5,
    ),
    "log sigmoid": Case(
        functional.logsigmoid,
        1,
        "log-probabilities of each output",
        "binary_cross_entropy",
        lambda f, y: _bernoulli(f.exp(), y),
        float(np.log(0.5)),
    ),
    "- softplus": Case(
        lambda u: -functional.softplus(u),
        1,
        "log-probabilities of each output",
        "binary_cross_entropy",
        lambda f, y: _bernoulli(f.exp(), y),
        float(np.log(0.5)),
    ),
    "a clamped softmax": Case(lambda u: u.softmax(1).clamp(0.05, 0.95), 4, "scores", None, None),
    "1 - softmax": Case(lambda u: 1 - u.softmax(1), 4, "scores", None, None),
    "a single tanh": Case(torch.tanh, 1, "signed scores", None, None, 0.0),
    "a single abs": Case(torch.abs, 1, "scores", None, None),
}


def labels_of(model: Network, case: Case) -> np.ndarray:
    """What the model says of most samples, something else of the others."""
    f = model.answers(X)
    if case.outputs == 1:
        threshold = f.median() if case.threshold is None else case.threshold
        said = (f[:, 0] > threshold).long().numpy()
    else:
        said = f.argmax(1).numpy()
    noise = RNG.integers(0, max(case.outputs, 2), N)
    labels: np.ndarray = np.where(RNG.random(N) < 0.2, noise, said)
    labels[: max(case.outputs, 2)] = np.arange(max(case.outputs, 2))  # each class occurs
    return labels


def right(f: Tensor, labels: np.ndarray, case: Case) -> np.ndarray:
    said = f.argmax(1) if case.outputs > 1 else (f[:, 0] > (case.threshold or 0.0)).long()
    found: np.ndarray = said.numpy() == labels
    return found


@pytest.mark.parametrize("name", CASES)
def test_classes(name: str) -> None:
    case = CASES[name]
    model = Network(INPUTS, case.outputs, case.link)
    labels = labels_of(model, case)
    found = analysed(model, {"x": X, "y": labels})
    f = model.answers(X)
    performance, assessment = found["performance"], found["verdict"]["assessment"]
    assert found["feature_map"]["answer"] == case.answer
    assert performance["loss_kind"] == case.kind
    told = [warning.partition(":")[0] for warning in found["feature_map"]["warnings"]]
    if case.outputs == 1 and case.threshold is None:
        assert (performance["accuracy"], assessment["skill"]) == (None, None)
        assert {"no_loss", "no_accuracy"} <= set(told)
        return
    hits = right(f, labels, case)
    assert performance["accuracy"] == hits.mean()
    largest = np.bincount(labels).max() / N
    assert assessment["skill"] == pytest.approx((hits.mean() - largest) / (1 - largest))
    if case.loss is None:
        assert performance["loss"] is None
        assert "no_loss" in told
    else:
        loss = float(case.loss(f, torch.from_numpy(labels)).mean())
        assert performance["loss"] == pytest.approx(loss, rel=2e-4)
        low, high = performance["confidence_interval"]["loss"]
        assert low < performance["loss"] < high
        assert not {"no_loss", "no_accuracy"} & set(told)
    whole = found["compression"][-1]
    assert whole["agreement"] >= 1 - 2 / N
    assert whole["accuracy"] == pytest.approx(hits.mean(), abs=2 / N)


@pytest.mark.parametrize("name", CASES)
def test_classes_of_an_eval_probe_and_nearest_means(name: str) -> None:
    case = CASES[name]
    model = Network(INPUTS, case.outputs, case.link)
    labels = labels_of(model, case)
    probe = {"x": X, "y": labels}
    found = analysed(model, probe, eval_probe=probe)
    for figure, value in found["held_out"]["performance"].items():
        expected = found["performance"][figure]
        assert value == (pytest.approx(expected) if isinstance(expected, float) else expected)
    if case.outputs == 1:
        return
    phi = model.phi(torch.from_numpy(X)).detach().double().numpy()
    means = np.array([phi[labels == c].mean(0) for c in range(case.outputs)])
    nearest = ((phi[:, None] - means) ** 2).sum(2).argmin(1)
    mismatch = (nearest != model.answers(X).argmax(1).numpy()).mean()
    assert found["neural_collapse"]["nc4_mismatch"] == pytest.approx(mismatch, abs=2 / N)


def test_projected_outputs_go_through_the_models_own_link() -> None:
    """Of |u| the mean output has another largest one than u has."""
    model = Network(INPUTS, 4, torch.abs)
    labels = labels_of(model, CASES["abs"])
    found = analysed(model, {"x": X, "y": labels})
    phi = model.phi(torch.from_numpy(X)).detach().double()
    u = phi @ model.head.weight.detach().double().T + model.head.bias.detach().double()
    centred = phi - phi.mean(0)
    left = torch.linalg.svd(centred, full_matrices=False)[0]
    whole = u.abs().argmax(1)
    for point in found["compression"]:
        basis = left[:, : point["k"]]
        projected = u.mean(0) + basis @ (basis.T @ (u - u.mean(0)))
        kept = (projected.abs().argmax(1) == whole).double().mean()
        assert point["agreement"] == pytest.approx(float(kept), abs=2 / N)


@pytest.mark.parametrize("picked", [0, 1])
def test_one_probability_of_two(picked: int) -> None:
    model = Network(INPUTS, 2, lambda u: u.softmax(1)[:, picked])
    f = model.answers(X)
    labels = np.where(RNG.random(N) < 0.2, RNG.integers(0, 2, N), (f > 0.5).long().numpy())
    found = analysed(model, {"x": X, "y": labels})
    assert found["feature_map"]["link"] == "softmax then select"
    assert found["feature_map"]["answer"] == "probabilities of each output"
    performance = found["performance"]
    assert performance["accuracy"] == ((f > 0.5).numpy() == labels).mean()
    loss = functional.binary_cross_entropy(f, torch.from_numpy(labels).double())
    assert performance["loss"] == pytest.approx(float(loss), rel=1e-4)
    assert found["verdict"]["minimality"]["rank"] == 1
    assert found["compression"][-1]["agreement"] >= 1 - 2 / N
    phi = model.phi(torch.from_numpy(X)).detach().double().numpy()
    means = np.array([phi[labels == c].mean(0) for c in range(2)])
    between = (means - means.mean(0)) / np.linalg.norm(means - means.mean(0))
    head = model.head.weight.detach().double().numpy()[[1 - picked, picked]]
    nc3 = ((head / np.linalg.norm(head) - between) ** 2).sum()
    assert found["neural_collapse"]["nc3"] == pytest.approx(nc3, rel=1e-5)


def test_some_probabilities_of_many() -> None:
    model = Network(INPUTS, 6, lambda u: u.softmax(1)[:, 1:4])
    f = model.answers(X)
    labels = np.where(RNG.random(N) < 0.2, RNG.integers(0, 3, N), f.argmax(1).numpy())
    found = analysed(model, {"x": X, "y": labels})
    performance = found["performance"]
    assert performance["accuracy"] == (f.argmax(1).numpy() == labels).mean()
    loss = float(_nll(f, torch.from_numpy(labels)).mean())
    assert performance["loss"] == pytest.approx(loss, rel=1e-4)


REGRESSIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda u: u,
    "sigmoid": torch.sigmoid,
    "1 - sigmoid": lambda u: 1 - torch.sigmoid(u),
    "softplus": functional.softplus,
    "exp": torch.exp,
    "tanh": lambda u: 3 * torch.tanh(u) + 1,
    "abs": torch.abs,
    "clamp": lambda u: u.clamp(-0.5, 0.5),
}


@pytest.mark.parametrize("name", REGRESSIONS)
@pytest.mark.parametrize("width", [1, 3])
def test_values(name: str, width: int) -> None:
    model = Network(INPUTS, width, REGRESSIONS[name], gain=1.0)
    f = model.answers(X).numpy()
    values = f + 0.1 * f.std() * RNG.standard_normal(f.shape)
    probe = {"x": X, "y": values}
    found = analysed(model, probe, eval_probe=probe)
    squared = ((f - values) ** 2).mean()
    performance = found["performance"]
    assert performance["loss_kind"] == "squared_error"
    assert performance["loss"] == pytest.approx(squared, rel=1e-5)
    assert found["held_out"]["performance"]["loss"] == pytest.approx(squared, rel=1e-5)
    skill = 1 - squared / values.var(0).mean()
    assert found["verdict"]["assessment"]["skill"] == pytest.approx(skill, rel=1e-5)
    assert found["feature_map"]["answer"] == "values"


def test_values_that_overflow_have_no_loss_and_say_so() -> None:
    model = Network(INPUTS, 2, torch.exp, gain=2000.0)
    assert model.answers(X).isinf().any()
    found = analysed(model, {"x": X, "y": X[:, :2].astype(np.float64)})
    assert (found["performance"]["loss"], found["performance"]["loss_kind"]) == (None, None)
    assert found["verdict"]["assessment"]["skill"] is None
    assert any("not finite" in warning for warning in found["feature_map"]["warnings"])


def test_certain_mistakes_cost_what_the_dtype_can_tell() -> None:
    model = Network(INPUTS, 2, lambda u: (u.softmax(1) - 1e-4).clamp(min=0.0), gain=40.0)
    labels = 1 - model.answers(X).argmax(1).numpy()
    assert (model.answers(X)[np.arange(N), labels] == 0).any()
    found = analysed(model, {"x": X, "y": labels})
    worst = -np.log(np.finfo(np.float32).tiny)
    kept = model.answers(X)[np.arange(N), labels].clamp(min=torch.finfo(torch.float32).tiny)
    assert found["performance"]["loss"] == pytest.approx(float(-kept.log().mean()), rel=1e-5)
    assert 1.0 < found["performance"]["loss"] < worst


class Dense(torch.nn.Module):
    """Labels pixels; its positions are transposed after the softmax, as its labels are."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = torch.nn.Conv2d(2, 8, 3, padding=1)
        self.head = torch.nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        p = self.head(torch.relu(self.trunk(x))).mul(3.0).softmax(1)
        return (1 - p).transpose(2, 3)


def test_positions_moved_after_the_link_stay_with_their_labels() -> None:
    images = RNG.standard_normal((60, 2, 6, 6), dtype=np.float32)
    model = Dense().eval()
    with torch.inference_mode():
        f = model(torch.from_numpy(images))
    said = f.argmax(1).numpy()
    labels = np.where(RNG.random(said.shape) < 0.2, RNG.integers(0, 3, said.shape), said)
    found = analysed(model, {"x": images, "y": labels})
    assert found["performance"]["accuracy"] == (said == labels).mean()
    assert found["compression"][-1]["agreement"] > 1 - 1e-3
    phi = torch.relu(model.trunk(torch.from_numpy(images))).detach().transpose(2, 3)
    rows = phi.movedim(1, -1).reshape(-1, 8).double().numpy()
    hot = np.eye(3)[labels.reshape(-1)]
    basis = np.linalg.qr(hot - hot.mean(0))[0][:, :2]
    left = np.linalg.svd(rows - rows.mean(0), full_matrices=False)[0]
    quality = ((basis.T @ left) ** 2).sum(0)
    np.testing.assert_allclose(
        found["projections"]["centered"]["quality"], quality, rtol=1e-3, atol=1e-6
    )


class SequenceFirst(torch.nn.Module):
    """Speaks of each step of a sequence, steps first in what it returns."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.trunk = torch.nn.Linear(3, 8)
        self.head = torch.nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.trunk(x))).mul(4.0).log_softmax(-1).permute(1, 0, 2)


def test_steps_first() -> None:
    x = RNG.standard_normal((70, 16, 3), dtype=np.float32)
    model = SequenceFirst().eval()
    with torch.inference_mode():
        f = model(torch.from_numpy(x)).transpose(0, 1)
    said = f.argmax(2).numpy()
    labels = np.where(RNG.random(said.shape) < 0.3, RNG.integers(0, 4, said.shape), said)
    found = analysed(model, {"x": x, "y": labels}, spec={"transform": {}})
    performance: dict[str, Any] = found["performance"]
    assert performance["accuracy"] == (said == labels).mean()
    loss = -f.reshape(-1, 4).gather(1, torch.from_numpy(labels).reshape(-1, 1)).mean()
    assert performance["loss"] == pytest.approx(float(loss), rel=1e-5)


def test_of_a_head_that_the_owner_names_the_answer_is_judged() -> None:
    def by_hand(u: Tensor) -> Tensor:
        e = torch.exp(u)
        return e / e.sum(1, keepdim=True)

    model = Network(INPUTS, 4, by_hand)
    labels = labels_of(model, CASES["softmax"])
    found = analysed(model, {"x": X, "y": labels}, feature_map={"module": "head"})
    assert not found["feature_map"]["verified"]
    assert found["feature_map"]["answer"] == "probabilities of classes"
    hits = model.answers(X).argmax(1).numpy() == labels
    assert found["performance"]["accuracy"] == hits.mean()
    loss = float(_nll(model.answers(X), torch.from_numpy(labels)).mean())
    assert found["performance"]["loss"] == pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize("outputs", [1, 4])
def test_saturated_sigmoids(outputs: int) -> None:
    model = Network(INPUTS, outputs, torch.sigmoid, gain=200.0)
    f = model.answers(X)
    assert ((f == 1).sum(1) > 1).any() or outputs == 1
    case = CASES["a sigmoid" if outputs == 1 else "a sigmoid for each class"]
    labels = RNG.integers(0, max(outputs, 2), N)
    found = analysed(model, {"x": X, "y": labels})
    hits = right(f, labels, case)
    assert found["performance"]["accuracy"] == hits.mean()
    assert found["compression"][-1]["agreement"] >= 1 - 3 / N


def test_shares_of_many_blocks_of_rows_do_not_exceed_one() -> None:
    """With so many outputs the curve takes 83 rows at a time, and 5 · 83/416 + 1/416 > 1."""
    n = 416
    model = Network(INPUTS, 50_000, lambda u: u)
    inputs = RNG.standard_normal((n, INPUTS), dtype=np.float32)
    labels = model.answers(inputs).argmax(1).numpy()
    found = analysed(model, {"x": inputs, "y": labels})
    assert found["compression"][-1]["agreement"] == 1.0
    assert found["compression"][-1]["accuracy"] == 1.0
