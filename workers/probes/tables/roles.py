"""Which columns of a table are the inputs and which is the target."""

import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate, chain
from typing import Protocol

import numpy as np
import numpy.typing as npt

from service.contract.probe_spec import ALL_COLUMNS, ProbeSpec
from workers.probes.containers.class_names import two_orders, with_class_names
from workers.probes.containers.container import (
    ArrayInfo,
    Container,
    check_readable,
    size_in_bytes,
    unreadable,
)
from workers.probes.containers.inference import TARGET_NAMES, describe
from workers.probes.tables import commas
from workers.probes.tables.columns import MissingValueError
from workers.protocol.arguments import ProbeLimits
from workers.protocol.errors import JobError

_NAMES_SHOWN = 8
_FIRST_ROWS = 16
_PLAINLY = "Write the numbers of {} with decimal points, and without commas between thousands."
_ROOM = 3000
"""Characters of a hint for the names of columns."""
_CUSTOMARY = {*map(str.lower, TARGET_NAMES), "class"}


class Columns(Container, Protocol):
    """A container whose arrays are the columns of one table."""

    @property
    def index_columns(self) -> list[str]:
        """Columns that the file itself says number or name its rows."""

    def missing(self, names: Sequence[str]) -> list[str]:
        """Return those of some columns that miss a value in a row."""

    def stack(self, names: Sequence[str], rows: int | None = None) -> npt.NDArray[np.generic]:
        """Read columns of one number a row side by side, shape (rows, columns).

        Args:
            names: The columns.
            rows: How many from the first on; None for all.
        """


class _Stacked:
    """A table with one more array: some of its columns, side by side."""

    def __init__(
        self, table: Columns, names: Sequence[str], limits: ProbeLimits, spec: ProbeSpec
    ) -> None:
        self._table = table
        self._spec = spec
        self._names = names
        self._limits = limits
        dtype = np.result_type(*(table.arrays[name].dtype for name in names))
        shape = (table.arrays[names[0]].shape[0], len(names))
        nbytes = size_in_bytes(ALL_COLUMNS, shape, dtype.itemsize)
        stacked = ArrayInfo(dtype.name, shape, nbytes, columns=tuple(names))
        self._arrays = {ALL_COLUMNS: stacked, **table.arrays}

    @property
    def arrays(self) -> Mapping[str, ArrayInfo]:
        return self._arrays

    def read(self, name: str) -> npt.NDArray[np.generic]:
        if name != ALL_COLUMNS:
            return self._table.read(name)
        check_readable(name, self._arrays[name], self._limits)
        try:
            return self._table.stack(self._names)
        except MissingValueError as error:
            raise _excludable(error, self._table.missing(self._names), self._spec) from error


def settle(table: Columns, spec: ProbeSpec, limits: ProbeLimits) -> tuple[Container, ProbeSpec]:
    """Answer what a spec leaves open about the columns of a table.

    The target is the column named; else one with a customary name; else the only one that holds
    names of classes. The input is the column or columns named; else one of lists or images; else
    `*`: all columns of numbers but the target.

    Args:
        table: The table.
        spec: With any keys left to inference.
        limits: What a stack of columns may take.

    Returns:
        The table, with the stack of its columns where that is an input; and the spec with `target`
        and, where the input is `*`, with `input` and `exclude`.

    Raises:
        JobError: `probe_unreadable` where what is meant cannot be told, or is not there.
    """
    found = None
    if spec.target is None and not spec.declares_no_target:
        found = _find_target(table, spec)
        if found is not None:
            spec = _with(spec, target=found)
    spec = _with_class_names(table, spec)
    inferred = spec.input is None and (spec.columns is not None or not _has_axes(table, spec))
    if not inferred and ALL_COLUMNS not in spec.inputs:
        _check_is_no_single_number(table, spec)
        return table, spec
    says_which = spec.exclude is not None or spec.columns is not None
    if inferred:
        spec = _with(spec, input=ALL_COLUMNS)
        if not says_which and table.index_columns:
            spec = _with(spec, exclude=table.index_columns)
    names = _members(table, spec)
    if inferred and found is not None:
        _refuse_coordinates(found, names)
    if inferred and not says_which:
        try:
            _refuse_row_numbers(table, names)
        except MissingValueError as error:
            raise _excludable(error, table.missing(names), spec) from error
    return _Stacked(table, names, limits, spec), spec


def _refuse_coordinates(target: str, names: Sequence[str]) -> None:
    """Refuse `y` as a target that nobody named, beside `x` and more: both may be coordinates."""
    partner = {"y": "x", "Y": "X"}.get(target)
    if partner in names and len(names) > 1:
        listed = " or ".join(f'"target": "{name}"' for name in (target, names[-1]))
        raise unreadable(
            f"The columns {partner!r} and {target!r} may be coordinates, or {target!r} the target: "
            f"the table has {len(names) - 1:,} more besides.",
            hint=f'Say which column is the target in the spec, as {listed}; "target": null if '
            "none is.",
        )


def is_target(name: str, spec: ProbeSpec) -> bool:
    """Return whether a column holds the targets: as the spec says, or else as it is called."""
    if spec.target is not None or spec.declares_no_target:
        return name == spec.target
    return name.lower() in _CUSTOMARY and name not in spec.inputs


def _has_axes(table: Columns, spec: ProbeSpec) -> bool:
    """Return whether a column of lists or images is there to be the input."""
    return any(
        info.is_numeric and len(info.shape) > 1 and name != spec.target
        for name, info in table.arrays.items()
    )


def _with(spec: ProbeSpec, **known: object) -> ProbeSpec:
    return ProbeSpec.model_validate({**spec.model_dump(mode="json"), **known})


def _with_class_names(table: Columns, spec: ProbeSpec) -> ProbeSpec:
    """Return the spec with the names of the classes, where the file tells them.

    Raises:
        JobError: `probe_unreadable` for strings that the file has in another order than the
            alphabet's.
    """
    info = table.arrays.get(spec.target or "")
    if info is None or info.class_names is None or spec.class_names is not None:
        return spec
    if info.is_text and sorted(info.class_names) != [*info.class_names]:
        raise two_orders(
            f"The classes in {spec.target!r} have two orders",
            info.class_names,
            "the file, as of a pandas categorical",
            sorted(info.class_names),
            "the alphabet",
        )
    return with_class_names(spec, info.class_names)


def _find_target(table: Columns, spec: ProbeSpec) -> str | None:
    named = [
        name for name, info in table.arrays.items() if info.may_be_targets and is_target(name, spec)
    ]
    free = [name for name in named if name not in (spec.columns or ())]
    if named and not free:
        raise _target_among_columns(table, named[0], spec)
    named = free
    others = {
        name: info
        for name, info in table.arrays.items()
        if name not in spec.inputs
        and name not in (spec.columns or ())
        and info.may_be_targets
        and len(info.shape) == 1
    }
    named = named or [name for name, info in others.items() if info.class_names and info.is_numeric]
    named = named or [name for name, info in others.items() if _holds_classes(table, name, info)]
    if len(named) == 1:
        return named[0]
    left = [name for name in named or others if name not in (spec.exclude or ())]
    if not left:
        return None
    shown = ", ".join(repr(name) for name in left[:_NAMES_SHOWN])
    more = f" and {len(left) - _NAMES_SHOWN:,} more" if len(left) > _NAMES_SHOWN else ""
    raise unreadable(
        f"Which column holds the targets cannot be told: {shown}{more} could be it, and not one "
        f"alone has a customary name ({', '.join(sorted(_CUSTOMARY))}) or holds names of classes.",
        hint=f'Set "target": "{left[-1]}" in the spec if that is the column with the labels or '
        'values to predict, or the name of another; "target": null for a probe without.',
        detail={"columns": [*left[:_NAMES_SHOWN]]},
    )


def _target_among_columns(table: Columns, name: str, spec: ProbeSpec) -> JobError:
    """Return the refusal of a column that is listed as an input and bears a target's name."""
    columns = spec.columns or []
    inputs = _as_json([column for column in columns if column != name])
    others = [
        other
        for other, info in table.arrays.items()
        if other not in columns and info.may_be_targets and len(info.shape) == 1
    ]
    without = f'Set "columns": [{inputs}] in the spec if it is. ' if inputs else ""
    instead = f'"target": "{others[-1]}" if that is the target, or ' if others else ""
    return unreadable(
        f'The spec\'s "columns" names {name!r}, which by its name is the target; expected columns '
        "that are inputs.",
        hint=f'{without}If {name!r} is an input, set {instead}"target": null for a probe without.',
        detail={"column": name},
    )


def _holds_classes(table: Columns, name: str, info: ArrayInfo) -> bool:
    """Return whether strings repeat, as the names of classes do; texts and file names do not."""
    if not info.is_text:
        return False
    try:
        values = table.read(name)
    except MissingValueError:
        return True  # whether a label may be missing is for whoever says that it is one
    except JobError:
        return False
    return 2 * len(np.unique(values)) <= len(values)


def _members(table: Columns, spec: ProbeSpec) -> list[str]:
    """Return the columns that make up `*`."""
    numbers = [
        name for name, info in table.arrays.items() if info.is_numeric and len(info.shape) == 1
    ]
    left_out = {spec.target, *(spec.exclude or ())}
    for key, names in (("columns", spec.columns), ("exclude", spec.exclude)):
        for name in names or ():
            if name not in table.arrays:
                raise unreadable(
                    f'The spec\'s "{key}" names {name!r}, which the table does not hold; it holds '
                    f"{describe(table.arrays)}.",
                    hint=f'Set "{key}" in the spec to names of the table\'s columns.',
                )
            if key == "columns" and name not in numbers:
                raise unreadable(
                    f"The column {name!r} does not hold one number a row; it is "
                    f"{describe({name: table.arrays[name]})}.",
                    hint=f'Leave {name!r} out of "columns" in the spec, or encode it as numbers '
                    "the way your model was trained.",
                )
    members = spec.columns or [name for name in numbers if name not in left_out]
    others = [
        name
        for name in table.arrays
        if name not in numbers and name not in left_out and name not in spec.inputs
    ]
    if others and spec.columns is None:
        raise _no_numbers(table, others, spec)
    if not members:
        raise unreadable(
            "No column of the table can be part of the inputs: expected columns of numbers, found "
            f"{describe(table.arrays)}.",
            hint="Store the model's inputs as columns of numbers, or as one column of lists.",
        )
    return members


def _no_numbers(table: Columns, names: Sequence[str], spec: ProbeSpec) -> JobError:
    """Return the refusal of columns that hold no numbers, and that nobody excluded."""
    # Each look reads the file; where some have commas, what the others hold comes later.
    looked_at = names[:_NAMES_SHOWN]
    texts = {name: _texts(table, name) for name in looked_at}
    with_commas = [name for name in looked_at if commas.advice(name, texts[name]) is not None]
    strange = [name for name in (looked_at if with_commas else names) if name not in with_commas]
    hints = []
    if with_commas:
        listed = ", ".join(map(repr, with_commas))
        all_texts = chain.from_iterable(texts[name] for name in with_commas)
        hints.append(commas.advice(listed, all_texts) or _PLAINLY.format(listed))
    if strange:
        excluded = _as_json([*(spec.exclude or ()), *strange])
        hints.append(
            f'Set "exclude": [{excluded}] in the spec if your model does not take '
            f"{'this' if len(strange) == 1 else 'these'}; else write the numbers that it takes."
        )
    return unreadable(
        f"The column {names[0]!r} cannot be part of the inputs: {_what_it_holds(table, names[0])}. "
        "A model's inputs are numbers.",
        hint=" ".join(hints),
        detail={"columns": [*names[:_NAMES_SHOWN]]},
    )


def _as_json(names: Sequence[str]) -> str:
    """Return names as a list in JSON has them, as many as a hint has room for."""
    written = [json.dumps(name, ensure_ascii=False) for name in names]
    room = bisect_right([*accumulate(len(each) + len(", ") for each in written)], _ROOM)
    more = f", … and {len(names) - room:,} more" if room < len(names) else ""
    return ", ".join(written[:room]) + more


def _texts(table: Columns, name: str) -> list[str]:
    """Return what a column of text holds; nothing for other columns."""
    if not table.arrays[name].is_text:
        return []
    try:
        return [str(value) for value in table.read(name)]
    except JobError:
        return []


def _excludable(error: MissingValueError, missing: Sequence[str], spec: ProbeSpec) -> JobError:
    """Return the failure of a stack of columns that miss values, and what can be done."""
    failure = error.failure
    if spec.columns is not None:
        return error
    excluded = _as_json([*(spec.exclude or ()), *missing])
    return JobError(
        failure.code,
        failure.message,
        hint=f"{failure.hint} If your model does not take "
        f'{"this column" if len(missing) == 1 else "these columns"}, set "exclude": [{excluded}] '
        "in the spec.",
        detail=failure.detail,
    )


def _what_it_holds(table: Columns, name: str) -> str:
    info = table.arrays[name]
    if not info.is_text:
        return f"it is {describe({name: info})}"
    values = table.read(name)
    row = next((row for row, text in enumerate(values) if not commas.is_number(str(text))), 0)
    text = str(values[row])
    comma = ", perhaps a number with a comma" if commas.advice(name, [text]) else ""
    return f"it holds text, first {text[:80]!r} in row {row}{comma}"


def _refuse_row_numbers(table: Columns, names: Sequence[str]) -> None:
    """Refuse to take for a feature what only counts the rows, unless the owner says so."""
    integers = [
        name for name in names if np.issubdtype(np.dtype(table.arrays[name].dtype), np.integer)
    ]
    first = table.stack(integers, _FIRST_ROWS) if integers else np.empty((0, 0))
    for place, name in enumerate(integers):
        if not _counts(first[:, place]) or not _counts(values := table.stack([name])[:, 0]):
            continue
        raise unreadable(
            f"The column {name!r} counts the rows, from {values[0]} to {values[-1]}; whether your "
            "model takes it as a feature cannot be told.",
            hint=f'Set "exclude": ["{name}"] in the spec to leave it out, or "exclude": [] to take '
            "it as a feature.",
            detail={"column": name},
        )


def _counts(values: npt.NDArray[np.generic]) -> bool:
    counted = np.arange(len(values))
    return len(values) > 1 and any(np.array_equal(values, counted + start) for start in (0, 1))


def _check_is_no_single_number(table: Columns, spec: ProbeSpec) -> None:
    if isinstance(spec.input, dict):
        return  # each of them goes to an argument, as of users and items
    first = spec.inputs[0] if spec.inputs else None
    info = None if first is None else table.arrays.get(first)
    if info is not None and info.is_numeric and len(info.shape) == 1:
        columns = ", ".join(f'"{name}"' for name in spec.inputs)
        raise unreadable(
            f'The input {first!r} is a column of one number a row; a list in "input" names the '
            "arguments of a model, each with an array of its own.",
            hint=f'To put columns side by side as one array, set "input": "*" and "columns": '
            f"[{columns}] in the spec.",
        )
