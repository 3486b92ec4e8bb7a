"""Labels as people have them: what they mean is settled by the model, against eager truth."""

from typing import Any

import numpy as np
import pytest
from analysed import analysed, refused
from labelled import (
    ALPHABETICAL,
    BINARY,
    IMAGES,
    MASKS,
    MULTI_HOT,
    NAMES,
    ONE_HOT,
    RNG,
    N,
    Spec,
    X,
    Y,
    check,
    network,
    pixels,
    truth,
)
from torch import nn

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
