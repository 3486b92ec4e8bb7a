"""The samples of a dataset of any make, one at a time, as they come."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, IterableDataset

_SUBSETS_WITHIN = 16
_PAIR = 2


@dataclass(frozen=True)
class Samples:
    """Samples to be taken from a dataset.

    Args:
        each: Them, in order.
        note: Which of the dataset's they are, where they are as many as may be taken and not all.
        class_names: What the dataset says its classes are called, in order; of a dataset of named
            columns by column.
    """

    each: Iterable[Any]
    note: str
    class_names: list[str] | dict[str, list[str]]

    def names_of(self, target: str, labels: npt.NDArray[np.generic]) -> list[str] | None:
        """Return what the classes of a target are called, if that is known and fits the labels."""
        found = self.class_names
        names = found.get(target, []) if isinstance(found, dict) else found
        values = np.unique(labels).tolist()
        known = {*(names if labels.dtype.kind in "US" else range(len(names)))}
        return names if names and known.issuperset(values) else None


def samples_of(source: object, limit: int) -> Samples:
    """Take samples from a dataset.

    Args:
        source: A torch `Dataset` or `DataLoader`, a Hugging Face dataset, or whatever else is
            indexed by numbers or gives one sample after the other.
        limit: The most samples.

    Raises:
        ValueError: It is none of these.
    """
    wrong = _why_no_dataset(source)
    if wrong is not None:
        raise ValueError(wrong)
    names = _class_names(source)
    if isinstance(source, DataLoader):
        source = _Unbatched(source)
    has_length = hasattr(source, "__len__") and hasattr(source, "__getitem__")
    if has_length and not isinstance(source, IterableDataset):
        total = len(source)  # type: ignore[arg-type]  # it has a length
        if total <= limit:
            return Samples(_picked(source, range(total)), "", names)
        rows = np.sort(np.random.default_rng(0).choice(total, limit, replace=False)).tolist()
        note = f"{limit:,} of {total:,} samples, drawn at random with seed 0 and kept in order"
        return Samples(_picked(source, rows), note, names)
    if isinstance(source, Iterable):
        return Samples(islice(source, limit), f"the first {limit:,} samples", names)
    name = type(source).__name__
    if hasattr(source, "__getitem__"):
        raise ValueError(
            f"{name} has no __len__, so how many samples it has is not known; expected a dataset "
            "with one, or with an __iter__ that ends."
        )
    raise ValueError(
        f"{name} is no dataset: expected a torch Dataset or DataLoader, a Hugging Face dataset, or "
        "a function without arguments that returns one."
    )


def _why_no_dataset(source: object) -> str | None:
    """Return what could be gone through and is no dataset, with what would be one."""
    if isinstance(source, type):
        name = source.__name__
        return (
            f"{name} is a class; expected a dataset that is made of it, such as "
            f"test_set = {name}(…), or a function without arguments that returns one."
        )
    if isinstance(source, Mapping):
        return (
            f"It is a dict of {', '.join(map(str, source))}; expected one dataset: a function "
            "without arguments may return one of them."
        )
    if isinstance(source, tuple) and all(isinstance(e, torch.Tensor | np.ndarray) for e in source):
        return (
            f"It is a tuple of {len(source)} arrays; expected a dataset of samples, such as "
            "torch.utils.data.TensorDataset(x, y) of two tensors."
        )
    return None


def _class_names(source: object) -> list[str] | dict[str, list[str]]:
    """Return `classes` of torchvision's datasets, or ClassLabels of Hugging Face's by column."""
    for _ in range(_SUBSETS_WITHIN):
        names = getattr(source, "classes", None)
        if isinstance(names, list | tuple) and names and all(isinstance(n, str) for n in names):
            return list(names)
        features = getattr(source, "features", None)
        if isinstance(features, dict):
            return {
                column: list(feature.names)
                for column, feature in features.items()
                if type(feature).__name__ == "ClassLabel"
            }
        source = getattr(source, "dataset", None)
    return []


class _Unbatched:
    """The samples in a loader's batches."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._loader = loader

    def __iter__(self) -> Iterator[Any]:
        for number, batch in enumerate(self._loader):
            for row in range(_rows(batch, number)):
                yield _row(batch, row)


def _picked(source: Any, rows: Iterable[int]) -> Iterator[Any]:
    for row in rows:
        yield source[row]


def _rows(batch: Any, number: int) -> int:
    """Return how many samples a batch holds.

    Raises:
        ValueError: Its parts do not say the same.
    """
    leaves = list(_leaves(batch))
    where = "the loader's first batch" if number == 0 else f"batch {number} of the loader"
    for name, leaf in leaves:
        if not _shape(leaf):
            is_number = isinstance(leaf, int | float) or hasattr(leaf, "shape")
            found = "one number" if is_number else f"of type {type(leaf).__name__}"
            raise ValueError(
                f"{name} of {where} is {found}; expected batches whose parts each have one row a "
                "sample. Where the loader yields single samples, as with batch_size=None, name its "
                "dataset instead of it."
            )
    lengths = {_shape(leaf)[0] for _, leaf in leaves}
    if len(lengths) > 1:
        first = leaves[0]
        other = next(each for each in leaves if _shape(each[1])[0] != _shape(first[1])[0])
        raise ValueError(
            f"{where[0].upper()}{where[1:]} has {_described(*first, ' rows')}, "
            f"{_described(*other)}; expected one row a sample of each, samples first. Of sequences "
            "that are time first, make batches with pad_sequence(…, batch_first=True) or transpose "
            "them in the collate function; else name the loader's dataset instead of it."
        )
    return lengths.pop() if lengths else 0


def _described(name: str, leaf: Any, rows: str = "") -> str:
    shape = _shape(leaf)
    return f"{shape[0]:,}{rows} of {name} (shape {shape})"


def _leaves(batch: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the parts of a batch that have rows, with names by which a person finds them."""
    if isinstance(batch, Mapping):
        for key, values in batch.items():
            yield from _leaves(values, f"{name}.{key}" if name else str(key))
    elif _is_several(batch):
        outermost = (
            "xy" if len(batch) <= _PAIR else [f"part {place}" for place in range(len(batch))]
        )
        for place, values in enumerate(batch):
            yield from _leaves(values, f"{name}[{place}]" if name else outermost[place])
    else:
        yield name or "x", batch


def _is_several(batch: Any) -> bool:
    """Return whether it is a list of parts, and no list of numbers or texts, which is one part."""
    return isinstance(batch, list | tuple) and not isinstance(
        batch[0] if batch else 0, str | int | float
    )


def _shape(leaf: Any) -> tuple[int, ...]:
    """Return the shape, rows first; nothing for what has none."""
    if isinstance(leaf, list | tuple):
        return (len(leaf),)
    return tuple(getattr(leaf, "shape", ()))


def _row(batch: Any, row: int) -> Any:
    if isinstance(batch, Mapping):
        return {name: _row(values, row) for name, values in batch.items()}
    if _is_several(batch):
        return tuple(_row(values, row) for values in batch)
    return batch[row]
