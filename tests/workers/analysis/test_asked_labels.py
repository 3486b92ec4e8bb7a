"""Labels that could mean two things, or fit no reading: each answer that is offered works."""

import json

import numpy as np
import pytest
import torch
from analysed import Network, analysed, refused
from labelled import (
    BINARY,
    IMAGES,
    MASKS,
    MULTI_HOT,
    NAMES,
    ONE_HOT,
    RNG,
    Arrays,
    N,
    Spec,
    X,
    Y,
    check,
    network,
    pixels,
)
from torch import nn

from service.contract.failures import FailureCode

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
