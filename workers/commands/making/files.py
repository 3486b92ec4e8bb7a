"""Probe files made of what a person has: a dataset in Python, a folder, a file of tensors."""

import importlib
import json
import re
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from service.contract.probe_spec import ProbeSpec
from workers.commands.making.arrays import DEFAULT_LIMIT, Made, make_arrays
from workers.probes.containers.inference import TARGET_NAMES

_TENSOR_SUFFIXES = (".pt", ".pth")
_PAIR = 2
_FOREIGN = re.compile(r"Unsupported (?:global: GLOBAL|class) (\S+)")
"""How torch.load names what it does not open, among advice that is of no use here."""


def make_probe(
    source: object, path: Path, *, target: str | None = None, limit: int = DEFAULT_LIMIT
) -> Made:
    """Write a dataset as a probe file, and its spec beside it.

    Args:
        source: A torch `Dataset` or `DataLoader`, or a Hugging Face dataset.
        path: Of the file, `probe.npz`; the spec goes to `probe.spec.json`.
        target: Name of the target, for samples that are dicts. Default: a customary one.
        limit: The most samples; more are drawn from at random.

    Raises:
        ValueError: The samples are not alike, or not of numbers.
    """
    made = make_arrays(source, target=target, limit=limit)
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **dict(made.arrays))
    write_spec(path, made.spec)
    return made


def write_spec(path: Path, spec: ProbeSpec) -> Path:
    """Write a spec beside its probe file."""
    beside = spec_path(path)
    beside.write_text(json.dumps(spec.model_dump(mode="json"), indent=2) + "\n")
    return beside


def spec_path(path: Path) -> Path:
    """Return where the spec of a probe file is written: `probe.spec.json` for `probe.npz`."""
    return path.with_suffix(".spec.json")


def from_words(
    source: str, path: Path | None, *, target: str | None, limit: int
) -> tuple[Path, Made]:
    """Make a probe of what a command line names.

    Args:
        source: `module:attribute` of a dataset or of a function that returns one; a folder of
            images in folders, or that `save_to_disk` has written; a file of tensors; or a file
            that is a probe already.
        path: Where to write it. Default: `probe.npz`, and for a folder `probe.tar`.
        target: Name of the target. Default: a customary one.
        limit: The most samples.

    Returns:
        The probe file, and what is known of it; a file that is one already stays where it is.

    Raises:
        ValueError: It is none of these, or cannot be read.
    """
    named = Path(source)
    known = {} if target is None else {"target": target}
    if named.is_dir():
        if not any(each.is_file() for each in _files(named)):
            raise ValueError(
                f"The folder {source} is empty; expected images in folders of their classes, or "
                "what save_to_disk has written."
            )
        packed = path or Path("probe.tar")
        _pack(named.resolve(), packed)
        return packed, Made({}, ProbeSpec.model_validate(known), "")
    if named.is_file() and named.suffix not in _TENSOR_SUFFIXES:
        if path is not None:
            raise ValueError(f"{source} is a file already, and is read as it is: leave {path} out.")
        return named, Made({}, ProbeSpec.model_validate(known), "")
    dataset = _tensors(named) if named.is_file() else _imported(source)
    written = path or Path("probe.npz")
    return written, make_probe(dataset, written, target=target, limit=limit)


def _imported(source: str) -> object:
    """Return the attribute of a module, called where it is a function."""
    module_name, colon, attribute = source.partition(":")
    if not colon or not module_name or not attribute:
        raise ValueError(
            f"{source} is no file or folder; expected one, or module:attribute of a dataset, such "
            "as mydata:test_set."
        )
    sys.path.insert(0, str(Path.cwd()))
    found: Any = importlib.import_module(module_name)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ValueError(f"The module {module_name} has no {attribute}.")
        found = getattr(found, part)
    is_dataset = hasattr(found, "__getitem__") or hasattr(found, "__iter__")
    return found() if callable(found) and not is_dataset else found


class _Rows:
    """Tensors of the same length, a row of each at a time."""

    def __init__(self, tensors: dict[str, torch.Tensor] | list[torch.Tensor]) -> None:
        self._tensors = tensors
        each = tensors.values() if isinstance(tensors, dict) else tensors
        lengths = {len(tensor) for tensor in each}
        if len(lengths) != 1:
            raise ValueError(f"The tensors have {sorted(lengths)} rows; expected equal numbers.")
        (self._length,) = lengths

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, row: int) -> Any:
        if isinstance(self._tensors, dict):
            return {name: tensor[row] for name, tensor in self._tensors.items()}
        return tuple(tensor[row] for tensor in self._tensors)


def _tensors(path: Path) -> _Rows:
    """Return what `torch.save` has written: a tensor, a pair of them, or a dict."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        kind = _FOREIGN.search(str(error))
        what = f"an object of {kind[1]}" if kind else "what torch.load(weights_only=True) refuses"
        raise ValueError(
            f"{path} holds more than tensors ({what}), and is not opened. Save a dict of tensors, "
            "torch.save({'x': x, 'y': y}, path), or name the dataset as module:attribute."
        ) from error
    if isinstance(found, torch.Tensor):
        return _Rows([found])
    if isinstance(found, dict) and all(isinstance(t, torch.Tensor) for t in found.values()):
        if not {*TARGET_NAMES, "x"} & found.keys() and all("." in name for name in found):
            raise ValueError(f"{path} holds the weights of a model, and no samples.")
        return _Rows(found)
    if isinstance(found, tuple | list) and len(found) == _PAIR:
        return _Rows(list(found))
    raise ValueError(f"{path} holds a {type(found).__name__}; expected tensors x and y.")


def _pack(folder: Path, path: Path) -> None:
    """Pack a folder into an uncompressed tar, in the order of the names."""
    with tarfile.open(path, "w") as archive:
        for file in _files(folder):
            archive.add(file, str(file.relative_to(folder.parent)), recursive=False)


def _files(folder: Path) -> Iterator[Path]:
    for each in sorted(folder.iterdir()):
        if each.is_dir():
            yield each
            yield from _files(each)
        elif each.is_file():
            yield each
