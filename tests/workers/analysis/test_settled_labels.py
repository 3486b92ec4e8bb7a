"""Labels as people have them: what they mean is settled by the model, against eager truth."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from analysed import Network, analysed, refused
from torch import nn

from service.failures import FailureCode

Spec = dict[str, Any]
Arrays = dict[str, np.ndarray]

N, CLASSES = 240, 4
RNG = np.random.default_rng(0)
X = RNG.standard_normal((N, 12)).astype(np.float32)
Y = RNG.permutation(np.arange(N) % CLASSES)
BINARY = (X[:, 0] + 0.3 * X[:, 1] > 0).astype(np.int64)
NAMES = np.array(["dog", "ant", "cat", "bee"])
ALPHABETICAL = np.unique(NAMES, return_inverse=True)[1]
ONE_HOT = np.eye(CLASSES)[Y]
MULTI_HOT = X[:, :3] > 0.2
IMAGES = RNG.standard_normal((60, 3, 6, 5)).astype(np.float32)
MASKS = RNG.integers(0, 2, (60, 6, 5))


def network(outputs: int, *tail: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, outputs), *tail)


def pixels(outputs: int, *tail: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, outputs, 1), *tail)


@torch.inference_mode()
def truth(model: nn.Sequential, x: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Accuracy, and the mean feature of each class: it tells which labels went where."""
    features = model[:2](torch.from_numpy(x))
    outputs = model[2](features)
    if outputs.ndim > 2:
        features, outputs = (maps.movedim(1, -1).flatten(0, 2) for maps in (features, outputs))
    told = outputs.argmax(1) if outputs.shape[1] > 1 else (outputs[:, 0] > 0).long()
    right = told.numpy() == labels.reshape(-1)
    phi = features.double().numpy()
    targets = np.eye(labels.max() + 1)[labels.reshape(-1)]
    targets, phi = targets - targets.mean(0), phi - phi.mean(0)
    kernel = np.linalg.norm(phi.T @ targets) ** 2
    return right.mean(), kernel / np.linalg.norm(phi.T @ phi) / np.linalg.norm(targets.T @ targets)


def check(
    report: dict[str, Any], model: nn.Sequential, labels: np.ndarray, x: np.ndarray = X
) -> None:
    accuracy, alignment = truth(model, x, labels)
    assert report["probe"]["task"] == "classification"
    assert report["probe"]["class_counts"] == np.bincount(labels.reshape(-1)).tolist()
    assert report["performance"]["accuracy"] == pytest.approx(accuracy, abs=1e-12)
    assert report["alignment"]["cka_target"] == pytest.approx(alignment, rel=1e-5)


GAPPED = np.array([1, 3, 4, 5])[Y]
READ: dict[str, tuple[nn.Sequential, np.ndarray, Spec, np.ndarray, str]] = {
    "0. and 1., one logit": (network(1), BINARY.astype("f4"), {}, BINARY, "whose link is identity"),
    "0. and 1., sigmoid": (
        network(1, nn.Sigmoid()),
        BINARY.astype("f8")[:, None],
        {},
        BINARY,
        "whose link is sigmoid",
    ),
    "whole float16": (network(4), Y.astype("f2"), {}, Y, "the model has 4 outputs"),
    "whole float32": (network(4), Y.astype("f4"), {}, Y, "the model has 4 outputs"),
    "whole float64, a column": (network(4), Y.astype("f8")[:, None], {}, Y, "has 4 outputs"),
    "whole floats, declared": (network(4), Y.astype("f4"), {"task": "classification"}, Y, ""),
    "0. and 1., two outputs": (network(2), BINARY.astype("f4"), {}, BINARY, "has 2 outputs"),
    "1 … K": (network(4), Y + 1, {}, Y, "are counted from 1: label 0 never occurs, label 4 does"),
    "1. … K.": (network(4), (Y + 1).astype("f4"), {}, Y, "are counted from 1"),
    "1 and 2, one logit": (network(1), BINARY + 1, {}, BINARY, "are counted from 1"),
    "1 … K, uint8": (network(4), (Y + 1).astype("u1"), {}, Y, "are counted from 1"),
    "1 … K, a column": (network(4), (Y + 1)[:, None], {}, Y, "are counted from 1"),
    "1 … K with names": (
        network(4),
        Y + 1,
        {"class_names": NAMES.tolist()},
        Y,
        "there are 4 classes",
    ),
    "-1 and 1, one logit": (network(1), 2 * BINARY - 1, {}, BINARY, "The labels -1 and 1"),
    "-1 and 1, int8": (network(1), (2 * BINARY - 1).astype("i1"), {}, BINARY, "labels -1 and 1"),
    "-1 and 1, listed": (
        network(2),
        2 * BINARY - 1,
        {"class_labels": [-1, 1]},
        BINARY,
        "",
    ),
    "fewer labels than outputs": (network(6), Y, {}, Y, "only 4 of the 6 outputs' classes"),
    "0 and 2 never occur": (network(6), GAPPED, {}, GAPPED, "although 1 is the smallest that occ"),
    "0 never occurs of many": (network(65), Y + 1, {}, Y + 1, "although 1 is the smallest that"),
    "listed": (
        network(4),
        10 * Y + 10,
        {"class_labels": [40, 30, 20, 10]},
        3 - Y,
        "",
    ),
    "listed, huge": (
        network(4),
        Y * 10**12,
        {"class_labels": [0, 10**12, 2 * 10**12, 3 * 10**12]},
        Y,
        "",
    ),
    "text": (network(4), NAMES[Y], {}, ALPHABETICAL[Y], "ant, bee, cat, dog"),
    "bytes": (network(4), NAMES[Y].astype("S"), {}, ALPHABETICAL[Y], "ant, bee, cat, dog"),
    "text, a column": (network(4), NAMES[Y][:, None], {}, ALPHABETICAL[Y], "ant, bee, cat, dog"),
    "text, one logit": (network(1), np.array(["no", "yes"])[BINARY], {}, BINARY, "no, yes"),
    "text, named": (
        network(4),
        NAMES[Y],
        {"class_names": NAMES.tolist()},
        Y,
        "lists them, in the order of the model's outputs: dog, ant",
    ),
    "text, not ASCII": (
        network(4),
        np.array(["ä", "z", "b", "Ω"])[Y],
        {},
        np.array([2, 1, 0, 3])[Y],
        "b, z, ä, Ω",
    ),
    "text of digits": (network(4), Y.astype("U"), {}, Y, "0, 1, 2, 3"),
    "text of digits, named": (
        network(12),
        (np.arange(N) % 12).astype("U"),
        {"class_names": [str(k) for k in range(12)]},
        np.arange(N) % 12,
        "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11",
    ),
    "one-hot bool": (network(4), ONE_HOT.astype(bool), {}, Y, ""),
    "one-hot uint8": (network(4), ONE_HOT.astype("u1"), {}, Y, ""),
    "one-hot int64": (network(4), ONE_HOT.astype("i8"), {}, Y, ""),
    "one-hot float16": (network(4), ONE_HOT.astype("f2"), {}, Y, ""),
    "one-hot float64": (network(4), ONE_HOT, {}, Y, ""),
    "one-hot, one logit": (network(1), np.eye(2)[BINARY], {}, BINARY, ""),
    "uint16": (network(4), Y.astype("u2"), {}, Y, ""),
    "uint32": (network(4), Y.astype("u4"), {}, Y, ""),
    "uint64": (network(4), Y.astype("u8"), {}, Y, ""),
    "bool": (network(1), BINARY.astype(bool), {}, BINARY, "is taken for the logit of label 1"),
    "0 and 1, one logit": (network(1), BINARY, {}, BINARY, "fitted to the numbers 0 and 1"),
    "0 and 1, a sigmoid": (network(1, nn.Sigmoid()), BINARY, {}, BINARY, ""),
    "named": (network(4), Y, {"class_names": NAMES.tolist()}, Y, ""),
}


@pytest.mark.parametrize("name", READ)
def test_labels_are_the_classes_that_the_model_says(name: str) -> None:
    model, stored, spec, labels, note = READ[name]
    report = analysed(model, {"x": X, "y": stored}, spec=spec)
    check(report, model, labels)
    notes = report["probe"]["notes"]
    assert bool(notes) == bool(note)
    assert note in " ".join(notes)


DENSE: dict[str, tuple[int, np.ndarray, Spec, str]] = {
    "uint8": (2, MASKS.astype("u1"), {}, ""),
    "bool": (1, MASKS.astype(bool), {}, ""),
    "float32, one channel": (1, MASKS[:, None].astype("f4"), {}, "the labels of positions"),
    "float64": (2, MASKS.astype("f8"), {}, "the labels of positions"),
    "flattened": (2, MASKS.reshape(60, -1), {}, "the model answers for 30 positions"),
    "flattened floats": (2, MASKS.reshape(60, -1).astype("f4"), {}, "for 30 positions"),
    "0 and 255": (1, (255 * MASKS).astype("u1"), {"class_labels": [0, 255]}, ""),
    "1 and 2": (2, MASKS + 1, {}, "are counted from 1"),
    "text": (2, np.array(["ground", "sky"])[MASKS], {}, "ground, sky"),
}


@pytest.mark.parametrize("name", DENSE)
def test_labels_of_positions(name: str) -> None:
    outputs, stored, spec, note = DENSE[name]
    model = pixels(outputs)
    report = analysed(model, {"x": IMAGES, "y": stored}, spec=spec)
    check(report, model, MASKS, IMAGES)
    assert note in " ".join(report["probe"]["notes"])


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float32", "float64"])
@pytest.mark.parametrize("spec", [{}, {"task": "multilabel"}, {"class_names": ["a", "b", "c"]}])
def test_rows_with_any_number_of_ones_are_several_labels(dtype: str, spec: Spec) -> None:
    report = analysed(network(3, nn.Sigmoid()), {"x": X, "y": MULTI_HOT.astype(dtype)}, spec=spec)
    probe = report["probe"]
    assert (probe["task"], probe["classes"]) == ("multilabel", 3)
    assert probe["class_counts"] == MULTI_HOT.sum(0).tolist()
    assert probe["class_names"] == spec.get("class_names")
    assert bool(probe["notes"]) == ("task" not in spec)


def test_one_hot_rows_are_several_labels_where_the_spec_says_so() -> None:
    report = analysed(network(4), {"x": X, "y": ONE_HOT}, spec={"task": "multilabel"})
    assert report["probe"]["task"] == "multilabel"
    assert report["probe"]["class_counts"] == ONE_HOT.sum(0).tolist()


@pytest.mark.parametrize(
    ("outputs", "values"),
    [
        (1, X[:, 3]),
        (1, X[:, 3:4].astype("f8")),
        (3, X[:, 3:6]),
        (3, RNG.integers(0, 9, (N, 3)).astype("f4")),
    ],
)
def test_values_stay_values(outputs: int, values: np.ndarray) -> None:
    report = analysed(network(outputs), {"x": X, "y": values})
    assert report["probe"]["task"] == "regression"
    assert report["probe"]["class_counts"] is None


REFUSED: dict[str, tuple[nn.Sequential, Arrays, Spec, str, list[Spec]]] = {
    "from 0 or from 1": (
        network(6),
        {"x": X, "y": Y + 1},
        {},
        "labels 'y' are 1 … 4 without a gap, of 6 classes: counted from 1, class 6 does not occur",
        [{"class_labels": [1, 2, 3, 4, 5, 6]}, {"class_labels": [0, 1, 2, 3, 4, 5]}],
    ),
    "from 0 or from 1, with names": (
        network(5),
        {"x": X, "y": Y + 1},
        {"class_names": ["a", "b", "c", "d", "e"]},
        "1 … 4 without a gap, of 5 classes",
        [{"class_labels": [1, 2, 3, 4, 5]}, {"class_labels": [0, 1, 2, 3, 4]}],
    ),
    "counts or classes": (
        network(1),
        {"x": X, "y": Y.astype("f4")},
        {},
        "whole-valued floats from 0 to 3, and the model has one output",
        [{"task": "regression"}],
    ),
    "ages": (
        network(1),
        {"x": X, "y": RNG.integers(18, 90, N).astype("f8")},
        {},
        "whole-valued floats from",
        [{"task": "regression"}],
    ),
    "-1. and 1., one output": (
        network(1, nn.Tanh()),
        {"x": X, "y": (2 * BINARY - 1).astype("f4")},
        {},
        "they may be values, such as counts, or class labels",
        [{"task": "regression"}, {"task": "classification", "class_labels": [-1, 1]}],
    ),
    "1. and 2., one output": (
        network(1),
        {"x": X, "y": (BINARY + 1).astype("f4")},
        {},
        "from 1 to 2, and the model has one output",
        [{"task": "regression"}, {"task": "classification", "class_labels": [1, 2]}],
    ),
    "counts": (
        network(1),
        {"x": X, "y": RNG.integers(0, 9, N)},
        {},
        "name 9 classes, the model tells 2 apart",
        [{"task": "regression"}],
    ),
    "rows of counts": (
        network(3),
        {"x": X, "y": RNG.integers(0, 9, (N, 3))},
        {},
        "1 against 3 a sample",
        [{"task": "regression"}],
    ),
    "rows of 0 and 1, declared labels": (
        network(3),
        {"x": X, "y": MULTI_HOT.astype("i8")},
        {"task": "classification"},
        "1 against 3 a sample",
        [{"task": "regression"}, {"task": "multilabel"}],
    ),
    "gaps": (
        network(4),
        {"x": X, "y": 10 * Y},
        {},
        "name 31 classes, the model tells 4 apart",
        [{"class_labels": [0, 10, 20, 30]}],
    ),
    "0 and 255": (
        network(1),
        {"x": X, "y": (255 * BINARY).astype("u1")},
        {},
        "name 256 classes",
        [{"class_labels": [0, 255]}, {"task": "regression"}],
    ),
    "-1 and 1, two outputs": (
        network(2),
        {"x": X, "y": 2 * BINARY - 1},
        {},
        "The label -1 in row",
        [{"class_labels": [-1, 1]}, {"ignore_label": -1}],
    ),
    "-100": (
        network(4),
        {"x": X, "y": np.where(np.arange(N) % 5, Y, -100)},
        {},
        "The label -100 in row 0 of 'y' marks a position to ignore",
        [{"ignore_label": -100}],
    ),
    "255": (
        network(4),
        {"x": X, "y": np.where(np.arange(N) % 5, Y, 255)},
        {},
        "name 256 classes",
        [{"ignore_label": 255}],
    ),
    "0 for none, and 1 … K": (
        pixels(2),
        {"x": IMAGES, "y": np.where(IMAGES[:, 0] > 1, 0, MASKS + 1)},
        {},
        "name 3 classes, the model tells 2 apart",
        [{"ignore_label": 0}],
    ),
    "masks 0 and 255": (
        pixels(2),
        {"x": IMAGES, "y": (255 * MASKS).astype("u1")},
        {},
        "hold 0 and 255 only",
        [{"class_labels": [0, 255]}],
    ),
    "masks with a void class": (
        pixels(3),
        {"x": IMAGES, "y": np.where(IMAGES[:, 0] > 1, 255, MASKS)},
        {},
        "The label 255 in row",
        [{"ignore_label": 255}],
    ),
    "texts of some classes": (
        network(6),
        {"x": X, "y": NAMES[Y]},
        {},
        "name 4 classes, ant, bee, cat, dog, and the model tells 6 apart",
        [{"class_names": ["eel", "dog", "cow", "cat", "bee", "ant"]}],
    ),
    "texts of some classes, named": (
        network(6),
        {"x": X, "y": NAMES[Y]},
        {"class_names": sorted(NAMES)},
        "which output is of which class cannot be told",
        [{"class_names": ["eel", "dog", "cow", "cat", "bee", "ant"]}],
    ),
    "texts of numbers": (
        network(12),
        {"x": X, "y": (np.arange(N) % 12).astype("U")},
        {},
        "their alphabetical order 0, 1, 10, 11, 2",
        [{"class_names": [str(k) for k in range(12)]}],
    ),
    "a text that is not named": (
        network(4),
        {"x": X, "y": NAMES[Y]},
        {"class_names": ["dog", "ant", "cat", "cow"]},
        "'bee' in row",
        [{"class_names": ["dog", "ant", "cat", "bee"]}],
    ),
    "numbers with names of some classes": (
        network(6),
        {"x": X, "y": Y},
        {"class_names": NAMES.tolist()},
        "have 4 names, dog, ant, cat, bee, and the model tells 6 apart",
        [{"class_names": ["dog", "ant", "cat", "bee", "cow", "eel"]}],
    ),
    "too few names": (
        network(4),
        {"x": X, "y": Y},
        {"class_names": ["dog", "ant", "cat"]},
        "name 4 classes, class_names lists 3",
        [{"class_names": NAMES.tolist()}],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_could_mean_two_things_is_asked_and_each_answer_works(name: str) -> None:
    model, arrays, spec, words, answers = REFUSED[name]
    failure = refused(model, arrays, spec=spec)
    assert failure.code in {FailureCode.INPUT_MISMATCH, FailureCode.PROBE_UNREADABLE}
    assert words in failure.message
    for answer in answers:
        for key, value in answer.items():
            written = f'"{key}": {json.dumps(value)}'
            assert key == "class_names" or written in (failure.hint or "")
            assert f'"{key}"' in (failure.hint or "")
        analysed(model, arrays, spec={**spec, **answer})
    analysed(model, arrays, spec={"target": None})


@pytest.mark.parametrize(
    ("outputs", "y", "spec", "message"),
    [
        (3, Y, {}, "name 4 classes, the model tells 3 apart"),
        (3, ONE_HOT, {}, "The labels name 4 classes, the model tells 3 apart"),
        (4, MULTI_HOT.astype("f4"), {}, "The model has 4 outputs and the probe 3 labels"),
        (4, X[:, 0], {}, "4 outputs; values of the probe a sample: 1"),
        (3, Y, {"class_labels": [0, 1, 2, 3]}, "lists 4 class_labels, the model tells 3 classes"),
        (4, np.repeat(Y[:, None], 7, 1), {}, "(240, 1, 4) and the probe's targets (240, 7): 1 aga"),
    ],
)
def test_what_fits_no_reading_is_refused(
    outputs: int, y: np.ndarray, spec: Spec, message: str
) -> None:
    failure = refused(network(outputs), {"x": X, "y": y}, spec=spec)
    assert message in failure.message
    assert '"target": null' in (failure.hint or "")


@pytest.mark.parametrize("dtype", ["u1", "i8", "f4", "?"])
def test_positions_in_another_order_are_refused_though_their_number_fits(dtype: str) -> None:
    turned = {"x": IMAGES, "y": MASKS.transpose(0, 2, 1).astype(dtype)}
    failure = refused(pixels(2), turned)
    assert failure.code == FailureCode.INPUT_MISMATCH
    assert "(60, 6, 5, 2)" in failure.message
    assert "(60, 5, 6)" in failure.message
    assert "another order" in failure.message
    turns = nn.Sequential(*pixels(2), Turned())
    report = analysed(turns, turned)
    check(report, pixels(2), MASKS, IMAGES)


class Turned(nn.Module):
    """Gives the answer with height and width exchanged."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.transpose(2, 3)


EVALUATED: dict[str, tuple[Any, Any, Any]] = {
    "counted from 1, the last class absent": (Y + 1, np.minimum(Y, 2) + 1, np.minimum(Y, 2)),
    "text, a class absent": (NAMES[Y], NAMES[np.minimum(Y, 2)], ALPHABETICAL[np.minimum(Y, 2)]),
    "floats": (Y.astype("f4"), Y.astype("f8"), Y),
    "one-hot and indices": (ONE_HOT, Y, Y),
}


@pytest.mark.parametrize("name", EVALUATED)
def test_the_eval_probe_means_what_the_probe_means(name: str) -> None:
    first, second, labels = EVALUATED[name]
    model = network(4)
    report = analysed(model, {"x": X, "y": first}, eval_probe={"x": X, "y": second})
    held_out = report["held_out"]
    counts = held_out["probe"]["class_counts"]
    assert held_out["probe"]["class_names"] == report["probe"]["class_names"]
    assert counts == np.bincount(labels, minlength=len(counts)).tolist()
    accuracy = truth(model, X, labels)[0]
    assert held_out["performance"]["accuracy"] == pytest.approx(accuracy, abs=1e-12)


@pytest.mark.parametrize(
    ("first", "second", "specs", "message"),
    [
        (Y, Y + 1, ({}, {}), "name 5 classes, the model"),
        (Y + 1, Y, ({}, {}), "The label 0 in row"),
        (NAMES[Y], np.char.upper(NAMES[Y]), ({}, {}), "is none of the 4 classes"),
        (NAMES[Y], Y, ({}, {}), "are numbers, those of the probe text"),
        (Y, NAMES[Y], ({}, {}), "are text, those of the probe numbers"),
        (
            NAMES[Y],
            NAMES[Y],
            ({}, {"class_names": NAMES.tolist()}),
            "list different class_names, or in another order",
        ),
        (
            Y,
            10 * Y,
            ({}, {"class_labels": [30, 20, 10, 0]}),
            "list different class_labels, or in another order",
        ),
        (Y, X[:, 0], ({}, {}), "is not a whole number"),
    ],
)
def test_an_eval_probe_of_other_classes_is_refused(
    first: np.ndarray, second: np.ndarray, specs: tuple[Spec, Spec], message: str
) -> None:
    failure = refused(
        network(4),
        {"x": X, "y": first},
        spec=specs[0],
        eval_probe={"x": X, "y": second},
        eval_spec=specs[1],
    )
    assert failure.message.startswith("Of the two probes, this is about the eval probe.")
    assert message in failure.message


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_rows_that_sum_to_one_are_probabilities_or_values(dtype: str) -> None:
    model = Network(12, 4, lambda u: u)
    x = np.random.default_rng(0).standard_normal((200, 12), dtype=np.float32)
    labels = model.answers(x).argmax(1).numpy()
    shares = (np.eye(4)[labels] * 0.9 + 0.025).astype(dtype)
    failure = refused(model, {"x": x, "y": shares})
    assert "probabilities of classes, or values" in failure.message
    assert '"task": "regression"' in str(failure.hint)
    told = analysed(model, {"x": x, "y": shares}, spec={"task": "regression"})
    expected = float((model.answers(x) - torch.from_numpy(shares).double()).square().mean())
    assert told["performance"]["loss"] == pytest.approx(expected, rel=1e-5)
    classes = analysed(model, {"x": x, "y": shares.argmax(axis=1)})
    assert classes["performance"]["accuracy"] == 1


@pytest.mark.parametrize("dtype", ["i2", "f4", "f8"])
@pytest.mark.parametrize("pair", [(-1, 1), (0, 255), (1, 2), (0, -1)])
def test_rows_of_two_numbers_are_labels_or_values(pair: tuple[int, int], dtype: str) -> None:
    absent, carried = sorted(pair)
    model = Network(12, 4, lambda u: u)
    random = np.random.default_rng(0)
    x = random.standard_normal((200, 12), dtype=np.float32)
    is_carried = random.random((200, 4)) < 0.4
    arrays = {"x": x, "y": np.where(is_carried, carried, absent).astype(dtype)}
    failure = refused(model, arrays)
    assert f"nothing but {absent} and {carried}, and the model has an output" in failure.message
    hint = str(failure.hint)
    assert f'"task": "multilabel" and "class_labels": [{absent}, {carried}]' in hint
    told = analysed(model, arrays, spec={"task": "regression"})
    assert told["probe"]["task"] == "regression"
    spec = {"task": "multilabel", "class_labels": [absent, carried]}
    labels = analysed(model, arrays, spec=spec, eval_probe={"x": x, "y": arrays["y"][::-1]})
    expected = ((model.answers(x) >= 0).numpy() == is_carried).mean()
    assert labels["performance"]["accuracy"] == pytest.approx(expected)
    assert labels["probe"]["class_counts"] == is_carried.sum(0).tolist()
    assert labels["held_out"]["probe"]["class_counts"] == is_carried.sum(0).tolist()
    asked = refused(model, arrays, spec={"task": "multilabel"})
    assert f'"class_labels": [{absent}, {carried}]' in str(asked.hint)


@pytest.mark.parametrize("dtype", ["i2", "f4"])
@pytest.mark.parametrize("code", [-1, -999, 255, 99])
def test_a_label_that_is_not_known_is_neither_a_label_nor_a_value(code: int, dtype: str) -> None:
    model = Network(12, 4, lambda u: u)
    random = np.random.default_rng(0)
    x = random.standard_normal((200, 12), dtype=np.float32)
    labels = random.choice([0, 1, code], (200, 4), p=[0.5, 0.45, 0.05])
    failure = refused(model, {"x": x, "y": labels.astype(dtype)})
    assert "they may be labels that a sample carries or not, or values" in failure.message
    assert "every label of a sample has to be known" in str(failure.hint)
    known = (labels != code).all(axis=1)
    kept = {"x": x[known], "y": labels[known].astype(dtype)}
    assert analysed(model, kept, spec={"task": "multilabel"})["probe"]["n"] == known.sum()


@pytest.mark.parametrize("dtype", ["i2", "f4"])
@pytest.mark.parametrize("code", [-1, -999, 99])
def test_two_classes_with_some_left_out(code: int, dtype: str) -> None:
    labels = np.where(np.arange(N) % 7, BINARY, code)
    arrays = {"x": X, "y": labels.astype(dtype)}
    assert f'"ignore_label": {code}' in str(refused(network(1), arrays).hint)
    spec = {"task": "classification", "ignore_label": code}
    report = analysed(network(1), arrays, spec=spec)
    assert report["probe"]["ignored"] == (labels == code).sum()
