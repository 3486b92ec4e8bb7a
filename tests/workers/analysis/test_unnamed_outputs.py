"""Outputs that no label names: the report says so where the result may be an embedding."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from analysed import analysed, refused
from support import scripted
from torch import Tensor, nn

from service.contract.options import FeatureMapChoice

N = 320
RNG = np.random.default_rng(0)
X = RNG.standard_normal((N, 12)).astype(np.float32)
OPTION = "options.feature_map = "


def embedding(width: int = 16, *tail: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, width), *tail).eval()


class Alone(nn.Module):
    """An embedding by its name."""

    def __init__(self) -> None:
        super().__init__()
        self.body = embedding()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"embedding": self.body(x)}


class Beside(Alone):
    """An embedding, and the length of the input."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"embedding": self.body(x), "size": x.square().sum(1, keepdim=True)}


@torch.inference_mode()
def predicted_classes(model: nn.Module) -> np.ndarray:
    """The largest output of each sample."""
    return model(torch.from_numpy(X)).argmax(1).numpy()


def notes_of(model: nn.Module, y: np.ndarray, **rest: Any) -> list[str]:
    report = analysed(scripted(model), {"x": X, "y": y}, **rest)
    return [note for note in report["probe"]["notes"] if OPTION in note]


def option_in(note: str) -> dict[str, Any]:
    at = note.index(OPTION) + len(OPTION)
    choice: dict[str, Any] = json.JSONDecoder().raw_decode(note, at)[0]
    return choice


@pytest.mark.parametrize("kind", ["indices", "one-hot", "floats"])
def test_labels_of_few_of_the_outputs_may_be_those_of_an_embedding(kind: str) -> None:
    labels = np.arange(N) % 4
    y = {
        "indices": labels,
        "one-hot": np.eye(4)[labels],
        "floats": labels.astype(np.float32),
    }[kind]
    (note,) = notes_of(embedding(), y)
    assert "only 4 of the 16 outputs' classes" in note
    assert "outputs 0 to 3" in note
    assert "embedding" in note


def test_the_option_that_is_named_judges_the_embedding() -> None:
    y = np.arange(N) % 4
    model = embedding()
    (note,) = notes_of(model, y)
    choice = option_in(note)
    assert choice == {"features_output": 0}
    report = analysed(
        scripted(model), {"x": X, "y": y}, feature_map=FeatureMapChoice.model_validate(choice)
    )
    assert (report["feature_map"]["p"], report["feature_map"]["outputs"]) == (16, 0)
    with torch.inference_mode():
        phi = model(torch.from_numpy(X)).double().numpy()
    largest = np.linalg.svd(phi, compute_uv=False)[0] ** 2 / N
    assert report["spectrum"]["eigenvalues"][0] == pytest.approx(largest, rel=1e-4)
    assert not [note for note in report["probe"]["notes"] if OPTION in note]


@pytest.mark.parametrize("model", [Alone, Beside])
def test_a_result_with_a_name_is_named(model: type[nn.Module]) -> None:
    y = np.arange(N) % 4
    (note,) = notes_of(model(), y)
    choice = option_in(note)
    assert choice == {"features_output": "embedding"}
    assert "returns nothing beside `embedding`" in note
    report = analysed(
        scripted(Alone()), {"x": X, "y": y}, feature_map=FeatureMapChoice.model_validate(choice)
    )
    assert (report["feature_map"]["p"], report["feature_map"]["outputs"]) == (16, 0)


def test_outputs_apart_from_each_other_are_listed() -> None:
    (note,) = notes_of(embedding(), np.array([0, 1, 2, 7, 9])[np.arange(N) % 5])
    assert "outputs 0 to 2, 7, 9" in note


def test_most_outputs_are_named_and_the_answers_are_guesses() -> None:
    """Ten digits and an embedding of sixteen numbers."""
    (note,) = notes_of(embedding(), RNG.permutation(np.arange(N) % 10))
    assert "only 10 of the 16 outputs' classes" in note


def test_a_classifier_whose_probe_lacks_some_classes_is_told_nothing() -> None:
    model = embedding(5)
    predicted = predicted_classes(model)
    y = np.where(predicted == 1, 2, predicted)
    assert len(np.unique(y)) == 4
    assert notes_of(model, y) == []


@pytest.mark.parametrize(
    ("tail", "spec"),
    [
        ([nn.Softmax(1)], {}),
        ([nn.LogSoftmax(1)], {}),
        ([], {"class_names": [f"class {k}" for k in range(16)]}),
        ([], {"class_labels": list(range(16))}),
    ],
)
def test_outputs_that_are_known_to_be_of_classes_are_not_asked_about(
    tail: list[nn.Module], spec: dict[str, Any]
) -> None:
    assert notes_of(embedding(16, *tail), np.arange(N) % 4, spec=spec) == []


def test_other_targets_and_other_choices_are_not_about_classes() -> None:
    model = embedding()
    assert notes_of(model, RNG.standard_normal((N, 16))) == []
    choice = FeatureMapChoice(features_output=0)
    assert notes_of(model, np.arange(N) % 4, feature_map=choice) == []
    assert notes_of(embedding(1), np.arange(N) % 2) == []
    report = analysed(scripted(model), {"x": X})
    assert not [note for note in report["probe"]["notes"] if OPTION in note]


def test_positions_are_no_embedding_of_a_sample() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(1, 8, 1), nn.ReLU(), nn.Conv1d(8, 16, 1)).eval()
    x, y = X[:, None, :], RNG.integers(0, 4, X.shape)
    report = analysed(scripted(model), {"x": x, "y": y})
    assert not [note for note in report["probe"]["notes"] if OPTION in note]


@pytest.mark.parametrize("spec", [{}, {"class_names": ["ant", "bee", "cat", "dog"]}])
def test_text_labels_of_an_embedding_are_refused_with_the_option(spec: dict[str, Any]) -> None:
    probe = {"x": X, "y": np.array(["ant", "bee", "cat", "dog"])[np.arange(N) % 4]}
    failure = refused(embedding(), probe, spec=spec)
    choice = option_in(failure.hint or "")
    assert choice == {"features_output": 0}
    named = {"class_names": ["ant", "bee", "cat", "dog"]}
    feature_map = FeatureMapChoice.model_validate(choice)
    report = analysed(scripted(embedding()), probe, spec=named, feature_map=feature_map)
    assert (report["probe"]["classes"], report["feature_map"]["outputs"]) == (4, 0)
    classifier = refused(embedding(16, nn.Softmax(1)), probe, spec=spec)
    assert OPTION not in (classifier.hint or "")
    too_few = refused(embedding(3), probe, spec={})
    assert OPTION not in (too_few.hint or "")


NAMED = {"class_names": ["ant", "bee", "cat", "dog"]}


@pytest.mark.parametrize("kind", ["indices", "one-hot"])
def test_names_of_some_outputs_are_refused(kind: str) -> None:
    labels = np.arange(N) % 4

    def probe(columns: int) -> dict[str, np.ndarray]:
        return {"x": X, "y": labels if kind == "indices" else np.eye(columns)[labels]}

    failure = refused(embedding(6), probe(4), spec=NAMED)
    assert "have 4 names, ant, bee, cat, dog, and the model tells 6 apart" in failure.message
    assert 'List all 6 classes in "class_names"' in (failure.hint or "")
    assert ("one-hot rows with all 6 columns" in (failure.hint or "")) == (kind == "one-hot")
    assert option_in(failure.hint or "") == {"features_output": 0}
    spec = {"class_names": [*NAMED["class_names"], "eel", "fox"]}
    report = analysed(scripted(embedding(6)), probe(6), spec=spec)
    assert report["performance"]["accuracy"] == (predicted_classes(embedding(6)) == labels).mean()
    choice = FeatureMapChoice(features_output=0)
    report = analysed(scripted(embedding(6)), probe(4), spec=NAMED, feature_map=choice)
    assert report["feature_map"]["outputs"] == 0


def test_names_of_the_outputs_that_are_listed_are_taken() -> None:
    spec = {**NAMED, "class_labels": [3, 2, 1, 0]}
    labels = np.arange(N) % 4
    report = analysed(scripted(embedding(6)), {"x": X, "y": labels}, spec=spec)
    assert (
        report["performance"]["accuracy"] == (predicted_classes(embedding(6)) == 3 - labels).mean()
    )


class SomeClasses(nn.Module):
    """A softmax over five classes, of which the last one is not returned."""

    def __init__(self) -> None:
        super().__init__()
        self.body = embedding(5)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).softmax(1)[:, :4]


def test_classes_are_those_of_the_answer() -> None:
    labels = np.arange(N) % 4
    report = analysed(scripted(SomeClasses()), {"x": X, "y": labels}, spec=NAMED)
    assert report["performance"]["accuracy"] == (predicted_classes(SomeClasses()) == labels).mean()
    assert not [w for w in report["verdict"]["warnings"] if "no sample" in w]


@pytest.mark.parametrize(
    ("outputs", "labels", "missing"),
    [
        (6, np.arange(N) % 4, "2 of 6"),
        (4, np.zeros(N, np.int64), "3 of 4"),
        (1200, np.arange(N) % 4, "1,196 of 1,200"),
        (1, np.zeros(N, np.int64), "1 of 2"),
    ],
)
def test_classes_without_samples_are_counted_among_all_outputs(
    outputs: int, labels: np.ndarray, missing: str
) -> None:
    report = analysed(scripted(embedding(outputs)), {"x": X, "y": labels})
    told = [w for w in report["verdict"]["warnings"] if "no sample" in w]
    assert told == [f"{missing} classes have no sample in the probe."]


def test_features_alone_tell_of_no_classes() -> None:
    choice = FeatureMapChoice(features_output=0)
    probe = {"x": X, "y": np.arange(N) % 4}
    report = analysed(scripted(embedding(16)), probe, feature_map=choice)
    assert not [w for w in report["verdict"]["warnings"] if "no sample" in w]


def test_a_good_classifier_whose_probe_has_two_classes_of_many_is_told_nothing() -> None:
    model = embedding(10)
    predicted = predicted_classes(model)
    frequent = np.argsort(np.bincount(predicted, minlength=10))[-2:]
    rows = np.isin(predicted, frequent)
    report = analysed(scripted(model), {"x": X[rows], "y": predicted[rows]})
    assert report["performance"]["accuracy"] == 1
    assert not [note for note in report["probe"]["notes"] if OPTION in note]
