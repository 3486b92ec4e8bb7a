"""Datasets of any make as arrays, against what the datasets themselves give."""

import re
from collections import UserDict
from collections.abc import Iterator
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
    default_collate,
)

from workers.commands.making import make_arrays

X = torch.randn(20, 3, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(20) % 4
NAMES = ["a", "b", "c", "d"]


class Named(Dataset[Any]):
    """As torchvision's are: pairs of a picture and a class, and the classes' names."""

    classes = NAMES

    def __init__(self, *, as_pictures: bool = False) -> None:
        self.as_pictures = as_pictures

    def __len__(self) -> int:
        return 20

    def __getitem__(self, row: int) -> tuple[Any, int]:
        picture = np.full((5, 6, 3), row, np.uint8)
        return (Image.fromarray(picture) if self.as_pictures else X[row]), int(Y[row])


class Streamed(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        for row in range(1000):
            yield torch.tensor([row, row + 1]), row / 2


class Tokens(Dataset[Any]):
    def __len__(self) -> int:
        return 20

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {
            "attention_mask": torch.ones(4, dtype=torch.bool),
            "input_ids": torch.arange(row, row + 4),
            "labels": Y[row],
        }


class Twins(Dataset[Any]):
    def __len__(self) -> int:
        return 20

    def __getitem__(self, row: int) -> Any:
        return (X[row], X[row] * 2), Y[row]


def test_a_torch_dataset() -> None:
    made = make_arrays(TensorDataset(X, Y))
    assert np.array_equal(made.arrays["x"], X.numpy())
    assert made.arrays["y"].tolist() == Y.tolist()
    assert made.spec.model_dump(mode="json") == {
        "format": "npz",
        "input": "x",
        "target": "y",
        "task": "classification",
        "transform": {},
    }
    assert made.note == ""


def test_a_loader_gives_what_its_batches_hold_in_their_order() -> None:
    loader = DataLoader(
        Named(), batch_size=6, shuffle=True, generator=torch.Generator().manual_seed(1)
    )
    made = make_arrays(loader)
    again = DataLoader(
        Named(), batch_size=20, shuffle=True, generator=torch.Generator().manual_seed(1)
    )
    x, y = next(iter(again))
    assert np.array_equal(made.arrays["x"], x.numpy())
    assert made.arrays["y"].tolist() == y.tolist()
    assert made.spec.class_names == NAMES


def collated(x: Any, y: Any) -> DataLoader[Any]:
    """A loader whose batches are made by functions of a list of samples' parts."""
    return DataLoader(
        TensorDataset(X, Y),
        batch_size=5,
        collate_fn=lambda samples: (x([a for a, _ in samples]), y([b for _, b in samples])),
    )


def test_batches_with_names_are_taken_apart_by_name() -> None:
    loader = DataLoader(Tokens(), batch_size=6, collate_fn=lambda s: UserDict(default_collate(s)))
    made = make_arrays(loader)
    assert made.arrays["input_ids"][3].tolist() == [3, 4, 5, 6]
    assert made.arrays["labels"].tolist() == Y.tolist()


@pytest.mark.parametrize(
    ("loader", "words"),
    [
        # pad_sequence's default puts time first.
        (collated(pad_sequence, torch.stack), "3 rows of x (shape (3, 5, 4)), 5 of y (shape (5,))"),
        (collated(torch.stack, lambda y: torch.stack(y * 2)), "5 rows of x (shape (5, 3, 4)), 10"),
        (collated(torch.stack, lambda y: torch.stack(y[:3])), "3 of y"),
        (collated(torch.stack, lambda y: [str(each) for each in y[:3]]), "3 of y"),
        (
            collated(lambda x: {"a": pad_sequence(x)}, torch.stack),
            "3 rows of x.a (shape (3, 5, 4))",
        ),
        (collated(list, torch.stack), "3 rows of x[0] (shape (3, 4))"),
        (DataLoader(TensorDataset(X, Y), batch_size=None), "y of the loader's first batch"),
        (
            collated(torch.stack, lambda _: None),
            "y of the loader's first batch is of type NoneType",
        ),
        (DataLoader(TensorDataset(X, Y), batch_size=5, collate_fn=list), "is one number"),
    ],
)
def test_batches_with_other_rows_in_their_parts_are_refused(
    loader: DataLoader[Any], words: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as refusal:
        make_arrays(loader)
    assert "expected" in str(refusal.value)


def test_classes_are_found_within_subsets() -> None:
    made = make_arrays(Subset(Named(), [3, 1, 2]))
    assert made.arrays["y"].tolist() == [3, 1, 2]
    assert made.spec.class_names == NAMES


def test_pictures_without_a_transform_stay_pictures() -> None:
    made = make_arrays(Named(as_pictures=True))
    assert made.arrays["x"].shape == (20, 5, 6, 3)
    assert made.arrays["x"].dtype == np.uint8
    assert made.arrays["x"][7, 0, 0, 0] == 7
    assert made.spec.transform is None


def test_a_stream_is_taken_from_its_beginning() -> None:
    made = make_arrays(Streamed(), limit=30)
    assert made.arrays["x"].tolist() == [[row, row + 1] for row in range(30)]
    assert made.arrays["y"].tolist() == [row / 2 for row in range(30)]
    assert made.spec.task is None
    assert made.note == "the first 30 samples"


def test_of_many_samples_some_are_drawn() -> None:
    made = make_arrays(TensorDataset(torch.arange(1000.0)[:, None], torch.arange(1000)), limit=50)
    rows = made.arrays["y"]
    assert len(rows) == 50
    assert (np.diff(rows) > 0).all()
    assert rows.max() > 800
    assert made.arrays["x"][:, 0].tolist() == rows.tolist()
    assert made.note.startswith("50 of 1,000 samples, drawn at random")


def test_inputs_with_names_are_left_to_the_models_names() -> None:
    made = make_arrays(Tokens())
    assert set(made.arrays) == {"input_ids", "attention_mask", "labels"}
    assert made.arrays["input_ids"][3].tolist() == [3, 4, 5, 6]
    assert made.spec.target == "labels"
    assert made.spec.inputs == []


def test_several_inputs_keep_their_order() -> None:
    made = make_arrays(Twins())
    assert np.array_equal(made.arrays["x1"], made.arrays["x0"] * 2)
    assert made.spec.inputs == ["x0", "x1"]
    assert made.spec.model_dump(mode="json")["transform"] == {"x0": {}, "x1": {}}


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_the_scale_of_whole_numbers_is_left_to_the_model(dtype: torch.dtype) -> None:
    pixels = (X.abs() * 50).to(dtype)
    assert make_arrays(TensorDataset(pixels, Y)).spec.transform is None
    made = make_arrays([((each, x), 1) for each, x in zip(pixels, X, strict=True)])
    assert made.spec.model_dump(mode="json")["transform"] == {"x1": {}}
    made = make_arrays([((each, each), 1) for each in pixels])
    assert made.spec.transform is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.uint8])
def test_values_are_those_of_the_tensors(dtype: torch.dtype) -> None:
    x = (torch.randn(9, 3) * 50).abs().to(dtype)
    made = make_arrays(TensorDataset(x))
    assert made.arrays["x"].tolist() == x.tolist()
    assert made.spec.target is None


def test_a_hugging_face_dataset() -> None:
    dataset = datasets.Dataset.from_dict(
        {"signal": X.tolist(), "label": Y.tolist()},
        features=datasets.Features(
            {
                "signal": datasets.Array2D((3, 4), "float32"),
                "label": datasets.ClassLabel(names=NAMES),
            }
        ),
    )
    made = make_arrays(dataset.with_format("torch"))
    assert np.allclose(made.arrays["signal"], X.numpy())
    assert (made.spec.input, made.spec.target) == ("signal", "label")
    assert made.spec.class_names == NAMES


def with_camera(labels: Any, cameras: int) -> datasets.Dataset:
    return datasets.Dataset.from_dict(
        {"signal": X.tolist(), "label": Y.tolist(), "camera": [0, 1] * 10},
        features=datasets.Features(
            {
                "signal": datasets.Array2D((3, 4), "float32"),
                "label": labels,
                "camera": datasets.ClassLabel(names=[f"cam{k}" for k in range(cameras)]),
            }
        ),
    )


@pytest.mark.parametrize("cameras", [2, 4])
def test_names_of_another_column_are_not_those_of_the_target(cameras: int) -> None:
    dataset = with_camera(datasets.Value("int64"), cameras)
    assert make_arrays(dataset).spec.class_names is None
    made = make_arrays(dataset, target="camera")
    assert made.spec.class_names == [f"cam{k}" for k in range(cameras)]


def test_of_two_columns_with_names_the_targets_are_taken() -> None:
    dataset = with_camera(datasets.ClassLabel(names=NAMES), 2)
    assert make_arrays(dataset).spec.class_names == NAMES
    assert make_arrays(DataLoader(dataset.with_format("torch"), 6)).spec.class_names == NAMES


def test_names_that_are_not_those_of_the_labels_are_left() -> None:
    dataset = Named()
    dataset.classes = NAMES[:3]
    assert make_arrays(dataset).spec.class_names is None


def test_labels_that_are_names_have_the_datasets_order() -> None:
    class Spoken(Named):
        classes = NAMES[::-1]

        def __getitem__(self, row: int) -> tuple[Any, Any]:
            return X[row], NAMES[int(Y[row])]

    assert make_arrays(Spoken()).spec.class_names == NAMES[::-1]
    other = Spoken()
    other.classes = ["a", "b"]
    assert make_arrays(other).spec.class_names is None


def test_a_hugging_face_dataset_of_pictures() -> None:
    pictures = [np.full((5, 6, 3), row, np.uint8) for row in range(8)]
    dataset = datasets.Dataset.from_dict(
        {"image": [Image.fromarray(each) for each in pictures], "label": [0, 1] * 4},
        features=datasets.Features(
            {"image": datasets.Image(), "label": datasets.ClassLabel(names=["x", "y"])}
        ),
    )
    made = make_arrays(dataset)
    assert np.array_equal(made.arrays["image"], np.stack(pictures))
    assert made.spec.transform is None


def test_sparse_tensors_are_read_as_what_they_stand_for() -> None:
    made = make_arrays([(each.to_sparse(), 1) for each in X])
    assert np.array_equal(made.arrays["x"], X.numpy())


def test_lists_of_numbers_are_one_input() -> None:
    made = make_arrays([([row, row + 1, row + 2], row % 2) for row in range(8)])
    assert made.arrays["x"].tolist() == [[row, row + 1, row + 2] for row in range(8)]
    assert made.spec.input == "x"
    made = make_arrays([(each.tolist(), 1) for each in X])
    assert np.array_equal(made.arrays["x"], X.double().numpy())
    made = make_arrays([([each, each * 2], 1) for each in X])
    assert made.spec.inputs == ["x0", "x1"]


def test_a_stream_that_ends_is_taken_whole_without_a_word() -> None:
    assert make_arrays(DataLoader(Named(), batch_size=6), limit=21).note == ""
    assert make_arrays(Streamed(), limit=1001).note == ""


class Augmented(Named):
    """Turns some pictures round, as training does."""

    def __getitem__(self, row: int) -> tuple[Any, int]:
        x, y = super().__getitem__(row)
        return (x.flip(1) if torch.rand(()) < 0.5 else x), y


def test_a_dataset_that_varies_is_warned_of() -> None:
    torch.manual_seed(0)
    for source in (Augmented(), DataLoader(Augmented(), 5)):
        assert "is another each time it is read" in make_arrays(source).warning
    missing = [(X[row] * torch.nan, 1) for row in range(8)]
    streamed: tuple[Any, ...] = (Named(), Named(as_pictures=True), Streamed(), Tokens(), missing)
    for source in (*streamed, DataLoader(Named(), 5, shuffle=True)):
        assert make_arrays(source, limit=10).warning == ""


class Endless(Dataset[Any]):
    """As torch's own base class, which has no length."""

    def __getitem__(self, row: int) -> Any:
        return X[row], Y[row]


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        ([(X[0].to(torch.complex64), 1)], {}, "'x' of sample 0 holds complex64; expected numbers"),
        ([([[1, 2], [3]], 1)], {}, "'x' of sample 0 is a list of lists of several lengths"),
        (Named, {}, "Named is a class; expected a dataset that is made of it"),
        (Endless(), {}, "Endless has no __len__, so how many samples it has is not known"),
        ({"train": Named(), "test": Named()}, {}, "a dict of train, test; expected one dataset"),
        ((X, Y), {}, "torch.utils.data.TensorDataset(x, y)"),
        ([{"x": X[0], "y": 1, "label": 2}], {}, "y, label could each be the target: set --target"),
        (TensorDataset(X[:0], Y[:0]), {}, "no samples"),
        (TensorDataset(X, X, Y), {}, "which of its parts are inputs cannot be told"),
        (3, {}, "int is no dataset"),
        ([{"x": X[0]}, {"z": X[0]}], {}, "Sample 1 has z, those before x"),
        ([(X[0], 1), (X[0][:2], 1)], {}, "'x' of sample 1 has shape (2, 4), that of sample 0"),
        ([(object(), 1)], {}, "is of type object"),
        ([{"text": "hello", "label": 1}], {}, "No sample has an input"),
        (Tokens(), {"target": "classes"}, "No sample has 'classes'; they have"),
    ],
)
def test_what_cannot_be_a_probe_is_said(source: Any, options: Any, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        make_arrays(source, **options)
