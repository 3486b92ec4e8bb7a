"""Of a layer that the owner chose, accuracy, loss and skill are of what the model returns."""

from typing import Any

import numpy as np
import pytest
import torch
from analysed import Network, analysed
from torch import Tensor
from torch.nn import functional

N = 400
RNG = np.random.default_rng(0)
X = RNG.standard_normal((N, 12), dtype=np.float32)
HEAD = {"module": "head"}


def _energy(u: Tensor) -> Tensor:
    e = torch.exp(-u)
    return e / e.sum(1, keepdim=True)


def _both_classes(u: Tensor) -> Tensor:
    p = torch.sigmoid(u)
    return torch.cat([p, 1 - p], 1)


def _subclasses(u: Tensor) -> Tensor:
    return u.view(-1, 4, 2).amax(-1)


def _normalised(u: Tensor) -> Tensor:
    return functional.layer_norm(u, [u.shape[1]])


def _labels(model: Network) -> np.ndarray:
    """What the model says of most samples, something else of the others."""
    said = model.answers(X).argmax(1).numpy()
    labels: np.ndarray = np.where(RNG.random(N) < 0.2, RNG.integers(0, said.max() + 1, N), said)
    return labels


def _codes(report: dict[str, Any]) -> list[str]:
    return [warning.partition(":")[0] for warning in report["feature_map"]["warnings"]]


@pytest.mark.parametrize(
    ("link", "outputs", "answer"),
    [
        (_energy, 4, "probabilities of classes"),
        (lambda u: _energy(u).log(), 4, "log-probabilities of classes"),
        (_both_classes, 1, "probabilities of classes"),
        (_normalised, 4, "scores"),
    ],
)
def test_figures_are_of_the_answer(link: Any, outputs: int, answer: str) -> None:
    model = Network(12, outputs, link)
    labels = _labels(model)
    probe = {"x": X, "y": labels}
    report = analysed(model, probe, eval_probe=probe, feature_map=HEAD)
    f = model.answers(X)
    accuracy = (f.argmax(1).numpy() == labels).mean()
    largest = np.bincount(labels).max() / N
    assert not report["feature_map"]["verified"]
    assert report["feature_map"]["answer"] == answer
    assessment = report["verdict"]["assessment"]
    assert assessment["skill"] == pytest.approx((accuracy - largest) / (1 - largest))
    for performance in (report["performance"], report["held_out"]["performance"]):
        assert performance["accuracy"] == accuracy
        if answer == "scores":
            assert performance["loss"] is None
            assert "no_loss" in _codes(report)
            continue
        logarithms = f if answer.startswith("log") else f.log()
        loss = float(functional.nll_loss(logarithms, torch.from_numpy(labels)))
        assert performance["loss"] == pytest.approx(loss, rel=1e-4)
        assert performance["loss_kind"] == "cross_entropy"
    assert "no_compressed_answers" in _codes(report)
    assert assessment["k99_agreement"] is None
    assert report["neural_collapse"]["nc3"] is None
    assert not [text for text in report["verdict"]["warnings"] if "order" in text]


def test_nearest_means_are_compared_with_the_answer() -> None:
    model = Network(12, 4, _energy)
    labels = _labels(model)
    report = analysed(model, {"x": X, "y": labels}, feature_map=HEAD)
    phi = model.phi(torch.from_numpy(X)).double().detach()
    means = torch.stack([phi[labels == k].mean(0) for k in range(4)])
    nearest = torch.cdist(phi, means).argmin(1)
    expected = float((nearest != model.answers(X).argmax(1)).double().mean())
    assert report["neural_collapse"]["nc4_mismatch"] == pytest.approx(expected, abs=2 / N)


@pytest.mark.parametrize("task", ["classification", "regression", "multilabel"])
def test_without_an_answer_of_as_many_columns_nothing_is_said_of_it(task: str) -> None:
    model = Network(12, 8, _subclasses)
    y: np.ndarray = _labels(model)
    if task == "regression":
        y = RNG.standard_normal((N, 8))
    if task == "multilabel":
        y = RNG.integers(0, 2, (N, 8))
    probe = {"x": X, "y": y}
    spec = {"task": task}
    report = analysed(model, probe, eval_probe=probe, spec=spec, feature_map=HEAD)
    assert report["feature_map"]["answer"] == "unknown"
    for performance in (report["performance"], report["held_out"]["performance"]):
        assert {value for key, value in performance.items() if key != "confidence_interval"} == {
            None
        }
    assert report["verdict"]["assessment"]["skill"] is None
    assert {point["accuracy"] for point in report["compression"]} == {None}
    (told,) = [w for w in report["feature_map"]["warnings"] if w.startswith("no_performance")]
    assert "8 outputs" in told
    assert "4 columns" in told


def test_values_are_compared_with_the_answer() -> None:
    model = Network(12, 4, _normalised)
    y = RNG.standard_normal((N, 4))
    report = analysed(model, {"x": X, "y": y}, feature_map=HEAD)
    expected = float((model.answers(X) - torch.from_numpy(y)).square().mean())
    assert report["performance"]["loss"] == pytest.approx(expected, rel=1e-4)
    assert report["performance"]["loss_kind"] == "squared_error"


def test_of_several_labels_the_answers_are_ranked_and_nothing_is_decided() -> None:
    model = Network(12, 4, _normalised)
    y = (model.answers(X) > 0).long().numpy()
    report = analysed(model, {"x": X, "y": y}, spec={"task": "multilabel"}, feature_map=HEAD)
    performance = report["performance"]
    assert (performance["accuracy"], performance["loss"]) == (None, None)
    assert performance["average_precision"] == pytest.approx(1.0)
    assert {"no_loss", "no_accuracy"} <= set(_codes(report))


class BesideAnother(Network):
    """The answer, and a result beside it, each with as many columns."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]  # it returns more
        u = self.head(self.phi(x))
        return _energy(u), _normalised(u)


def test_of_several_results_the_answer_is_the_one_that_is_named() -> None:
    model = BesideAnother(12, 4, None)
    f = model(torch.from_numpy(X))[0].detach()
    labels = f.argmax(1).numpy()
    probe = {"x": X, "y": labels}
    unnamed = analysed(model, probe, feature_map=HEAD)
    assert unnamed["performance"]["accuracy"] is None
    (told,) = [w for w in unnamed["feature_map"]["warnings"] if w.startswith("no_performance")]
    assert '"output"' in told
    named = analysed(model, probe, feature_map={"output": 0, **HEAD})
    assert named["performance"]["accuracy"] == 1.0
    loss = float(functional.nll_loss(f.log(), torch.from_numpy(labels)))
    assert named["performance"]["loss"] == pytest.approx(loss, rel=1e-4)


class Pixels(torch.nn.Module):
    """A softmax over the classes of each pixel, by hand."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = torch.nn.Conv2d(1, 8, 3, padding=1)
        self.head = torch.nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        e = torch.exp(-4 * self.head(torch.relu(self.body(x))))
        return e / e.sum(1, keepdim=True)


def test_of_positions_too() -> None:
    model = Pixels()
    x = RNG.standard_normal((40, 1, 4, 5), dtype=np.float32)
    f = model(torch.from_numpy(x)).detach()
    labels = f.argmax(1).numpy()
    labels[:, 0] = 1
    report = analysed(model, {"x": x, "y": labels}, feature_map=HEAD)
    hits = (f.argmax(1).numpy() == labels).mean()
    assert report["performance"]["accuracy"] == pytest.approx(hits)
    loss = float(functional.nll_loss(f.log(), torch.from_numpy(labels)))
    assert report["performance"]["loss"] == pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize("stored", [np.arange(4), np.array(list("abcd"))])
def test_names_are_of_the_classes_of_the_answer_where_it_has_other_columns(
    stored: np.ndarray,
) -> None:
    model = Network(12, 8, _subclasses)
    probe = {"x": X, "y": stored[_labels(model)]}
    report = analysed(model, probe, spec={"class_names": list("abcd")}, feature_map=HEAD)
    assert report["probe"]["class_names"] == list("abcd")
    assert not [text for text in report["verdict"]["warnings"] if "no sample" in text]
