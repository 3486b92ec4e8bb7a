"""Samples as arrays, with a spec that says what they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset

from service.contract.probe_spec import ProbeSpec
from workers.commands.making.samples import samples_of
from workers.probes.containers.inference import TARGET_NAMES

Array = npt.NDArray[np.generic]
_PAIR = 2
_READ_TWICE = 8
"""Samples: a random flip leaves half of them as they are."""
DEFAULT_LIMIT = 10_000
"""Samples: intervals of some thousand are narrow, and files of them are small."""


@dataclass(frozen=True)
class Made:
    """Arrays of a probe, and how they are to be read.

    Args:
        arrays: By name, samples first.
        spec: With everything that the dataset says.
        note: Which samples were taken, where they are not all.
        warning: What speaks against taking these samples for an evaluation; else empty.
    """

    arrays: Mapping[str, Array]
    spec: ProbeSpec
    note: str
    warning: str = ""


def make_arrays(source: object, *, target: str | None = None, limit: int = DEFAULT_LIMIT) -> Made:
    """Turn a dataset into arrays.

    Floats that a dataset yields are what a model takes, so their transform in the spec is `{}`, as
    stored. Whole numbers may be pixels that no transform of the dataset has made into floats: what
    is done to them is left to be decided with the model in view.

    Args:
        source: A torch `Dataset` or `DataLoader`, or a Hugging Face dataset. Samples are pairs of
            input and target, dicts, or inputs alone; an input may be a tuple of several.
        target: Name of the target, for samples that are dicts. Default: a customary one.
        limit: The most samples; more are drawn from at random.

    Returns:
        The arrays: `x` and `y`, or those of the dicts' names.

    Raises:
        ValueError: The samples are not alike, or not of numbers.
    """
    samples = samples_of(source, limit)
    columns: dict[str, list[Array]] = {}
    names_its_parts = False
    taken = 0
    for row, sample in enumerate(samples.each):
        taken = row + 1
        names_its_parts = isinstance(sample, Mapping)
        parts = _named(sample)
        if row and parts.keys() != columns.keys():
            raise ValueError(
                f"Sample {row} has {', '.join(parts)}, those before {', '.join(columns)}; expected "
                "the same of every sample."
            )
        for name, value in parts.items():
            columns.setdefault(name, []).append(_array(name, row, value))
    if not columns:
        raise ValueError("The dataset has no samples; expected at least 1.")
    arrays = {name: _stacked(name, values) for name, values in columns.items()}
    keys = _roles(arrays, target, in_order=not names_its_parts)
    keys |= _transform(arrays, keys.get("input"))
    labels = arrays.get(keys["target"] or "")
    if labels is not None and labels.ndim == 1 and labels.dtype.kind in "iubUS":
        if labels.dtype.kind not in "US":
            keys["task"] = "classification"
        names = samples.names_of(str(keys["target"]), labels)
        if names is not None:
            keys["class_names"] = names
    note = samples.note if taken == limit else ""
    return Made(arrays, ProbeSpec.model_validate(keys), note, _varies(source))


def _varies(source: object) -> str:
    """Return words for a dataset that gives another sample each time it is asked for one."""
    dataset: Any = source.dataset if isinstance(source, DataLoader) else source
    is_indexed = hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
    if isinstance(dataset, IterableDataset) or not is_indexed:
        return ""
    for row in range(min(_READ_TWICE, len(dataset))):
        try:
            first, again = _named(dataset[row]), _named(dataset[row])
            pairs = [(name, _array(name, row, first[name]), again[name]) for name in first]
            name = next((n for n, a, b in pairs if not _equal(a, _array(n, row, b))), None)
        except Exception:  # noqa: BLE001 - these samples may be none of those that were taken
            return ""
        if name is not None:
            return (
                f"{name!r} of sample {row} is another each time it is read, as random augmentation "
                "makes it. Name the dataset as your evaluation has it."
            )
    return ""


def _equal(a: Array, b: Array) -> bool:
    return np.array_equal(a, b, equal_nan=a.dtype.kind == b.dtype.kind == "f")


def _named(sample: Any) -> dict[str, Any]:
    """Return the parts of a sample by name: `x` and `y`, or as it names them."""
    if isinstance(sample, Mapping):
        return {str(name): value for name, value in sample.items()}
    if not isinstance(sample, tuple | list):
        return {"x": sample}
    if len(sample) > _PAIR:
        raise ValueError(
            f"A sample is a tuple of {len(sample)}, and which of its parts are inputs cannot be "
            "told: yield (input, target), ((first input, second input), target), or a dict, with "
            "--target for the name of the target."
        )
    inputs = sample[0] if _is_several(sample[0]) else [sample[0]]
    names = ["x"] if len(inputs) == 1 else [f"x{place}" for place in range(len(inputs))]
    parts = dict(zip(names, inputs, strict=True))
    return parts if len(sample) == 1 else {**parts, "y": sample[1]}


def _is_several(part: Any) -> bool:
    """Return whether it is several inputs; a list of numbers, or of such lists, is one."""
    is_one = isinstance(part, list) and not any(
        isinstance(each, torch.Tensor | np.ndarray | Image.Image) for each in part
    )
    return isinstance(part, tuple | list) and not is_one


def _array(name: str, row: int, value: Any) -> Array:
    where = f"{name!r} of sample {row}"
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().to_dense()
        # numpy has no bfloat16; float32 holds it.
        array = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    elif isinstance(value, Image.Image):
        array = np.asarray(value if value.mode in {"L", "RGB"} else value.convert("RGB"))
    else:
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise ValueError(
                f"{where} is a {type(value).__name__} of lists of several lengths; expected one "
                "length: pad."
            ) from error
    if array.dtype.hasobject:
        raise ValueError(
            f"{where} is of type {type(value).__name__}; expected a tensor, an array, a picture, a "
            "number or the name of a class."
        )
    if array.dtype.kind not in "biufUS":
        raise ValueError(
            f"{where} holds {array.dtype.name}; expected numbers that are whole or real, or text."
        )
    return np.array(array)


def _stacked(name: str, values: Sequence[Array]) -> Array:
    shapes = [value.shape for value in values]
    odd = next((row for row, shape in enumerate(shapes) if shape != shapes[0]), None)
    if odd is not None:
        raise ValueError(
            f"{name!r} of sample {odd} has shape {shapes[odd]}, that of sample 0 {shapes[0]}; "
            "expected one shape: resize or crop in the dataset's transform, or pad."
        )
    return np.stack(values)


def _roles(arrays: Mapping[str, Array], target: str | None, *, in_order: bool) -> dict[str, Any]:
    """Format, input and target of the spec; inputs with names are left to the model's names."""
    if target is not None and target not in arrays:
        raise ValueError(f"No sample has {target!r}; they have {', '.join(arrays)}.")
    customary = [name for name in TARGET_NAMES if name in arrays]
    if target is None and len(customary) > 1:
        raise ValueError(
            f"{', '.join(customary)} could each be the target: set --target to the name of one."
        )
    found = target or next(iter(customary), None)
    inputs = [name for name in arrays if name != found and arrays[name].dtype.kind not in "US"]
    if not inputs:
        raise ValueError(f"No sample has an input; they have {', '.join(arrays)}.")
    keys: dict[str, Any] = {"format": "npz", "target": found}
    if len(inputs) == 1:
        keys["input"] = inputs[0]
    elif in_order:
        keys["input"] = inputs
    return keys


def _transform(arrays: Mapping[str, Array], inputs: str | list[str] | None) -> dict[str, Any]:
    """Return what the spec says is done to the inputs: nothing to those of floats."""
    if isinstance(inputs, str):
        return {"transform": {}} if arrays[inputs].dtype.kind == "f" else {}
    floats: dict[str, Any] = {name: {} for name in inputs or () if arrays[name].dtype.kind == "f"}
    return {"transform": floats} if floats else {}
