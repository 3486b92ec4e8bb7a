"""The samples of a dataset of any make, one at a time, as they come."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset, IterableDataset

_SUBSETS_WITHIN = 16


@dataclass(frozen=True)
class Samples:
    """Samples to be taken from a dataset.

    Args:
        each: Them, in order.
        note: Which of the dataset's they are, where they are not all of them; else empty.
        class_names: What the dataset says its classes are called.
    """

    each: Iterable[Any]
    note: str
    class_names: list[str] | None


def samples_of(source: object, limit: int) -> Samples:
    """Take samples from a dataset.

    Args:
        source: A torch `Dataset` or `DataLoader`, a Hugging Face dataset, or whatever else is
            indexed by numbers or gives one sample after the other.
        limit: The most samples.

    Raises:
        ValueError: It is none of these.
    """
    names = class_names(source)
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
        return Samples(islice(source, limit), f"at most the first {limit:,} samples", names)
    raise ValueError(
        f"{type(source).__name__} is no dataset: expected a torch Dataset or DataLoader, a Hugging "
        "Face dataset, or a function without arguments that returns one."
    )


def class_names(source: object) -> list[str] | None:
    """The `classes` of torchvision's datasets, or the ClassLabel of Hugging Face's."""
    for _ in range(_SUBSETS_WITHIN):
        names = getattr(source, "classes", None)
        if isinstance(names, list | tuple) and names and all(isinstance(n, str) for n in names):
            return list(names)
        features = getattr(source, "features", None)
        if isinstance(features, dict):
            found = [f.names for f in features.values() if type(f).__name__ == "ClassLabel"]
            return list(found[0]) if len(found) == 1 else None
        inner = getattr(source, "dataset", None)
        if not isinstance(inner, Dataset) and inner is None:
            return None
        source = inner
    return None


class _Unbatched:
    """The samples in a loader's batches."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._loader = loader

    def __iter__(self) -> Iterator[Any]:
        for batch in self._loader:
            for row in range(_rows(batch)):
                yield _row(batch, row)


def _picked(source: Any, rows: Iterable[int]) -> Iterator[Any]:
    for row in rows:
        yield source[row]


def _rows(batch: Any) -> int:
    if isinstance(batch, dict):
        return _rows(next(iter(batch.values())))
    if isinstance(batch, list | tuple):
        return _rows(batch[0])
    return len(batch)


def _row(batch: Any, row: int) -> Any:
    if isinstance(batch, dict):
        return {name: _row(values, row) for name, values in batch.items()}
    if isinstance(batch, list | tuple) and not isinstance(batch[0], str | int | float):
        return tuple(_row(values, row) for values in batch)
    return batch[row]
