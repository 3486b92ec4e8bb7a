"""What a spec leaves open, answered from the file's directory as far as it tells."""

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from operator import itemgetter

from service.contract.probe_spec import ALL_COLUMNS, ProbeSpec
from workers.probes.containers.container import ArrayInfo, shape_text, unreadable

INPUT_NAMES = ("x", "X", "inputs", "input", "images", "image", "data", "features", "input_ids")
TARGET_NAMES = ("y", "Y", "targets", "target", "labels", "label", "y_true", "label_ids", "class")

SHARED = (
    "Every array that a model is given needs one row for each sample. What all samples share "
    "belongs into the model: save it inside a module that holds it and takes the rest. One graph "
    "over all samples cannot be analysed, since samples are given in batches."
)
"""What to do with an array that has other rows."""

OTHER_SAMPLES = "with other samples"
"""What the reason against an array begins with that has not one row for each sample."""


def choose_target(spec: ProbeSpec, arrays: Mapping[str, ArrayInfo]) -> str | None:
    """Return the array with the targets, or None for a probe without.

    The one named; else the first input's own partner (`y_test` of `x_test`), else one with a
    customary name.

    Raises:
        JobError: `probe_unreadable` if the named array is missing, or several could be meant.
    """
    if spec.target is not None:
        return _present(spec.target, "target", arrays)
    if spec.declares_no_target:
        return None
    inputs = spec.inputs[:1] or arrays
    partners = [partner for name in inputs if name in arrays for partner in _partners(name)]
    found = [name for name in partners if name in arrays and name not in spec.inputs]
    if not found:
        found = [name for name in TARGET_NAMES if name in arrays and name not in spec.inputs]
    if len(found) > 1:
        raise unreadable(
            f"Several arrays could be the targets: {', '.join(map(repr, found[:8]))}; expected "
            f"one. The file holds {describe(arrays)}.",
            hint=f"Say which in the spec, as {_written(found[:8], arrays)}; "
            '"target": null is for a probe without targets.',
        )
    return found[0] if found else None


def _written(targets: Sequence[str], arrays: Iterable[str]) -> str:
    """Return targets as a spec names them, each with the inputs that customarily go with it."""
    inputs = {partner: name for name in arrays for partner in _partners(name)}
    named = [inputs.get(target) for target in targets]
    # Where all go with the same inputs, or with none by name, there is nothing to say of these.
    tell = None not in named and len(set(named)) == len(named)
    return " or ".join(
        f'"target": "{target}"' + (f' with "input": "{name}"' if tell else "")
        for target, name in zip(targets, named, strict=True)
    )


def choose_inputs(
    spec: ProbeSpec, target: str | None, arrays: Mapping[str, ArrayInfo]
) -> list[str]:
    """Return the arrays that are inputs, or, where the spec names none, those that can be some.

    The first one is what a person would take for the inputs: an array with a customary name, or the
    largest. Which of several a model gets, only the model can say.

    Raises:
        JobError: `probe_unreadable` if a named array is missing or none could be inputs.
    """
    if spec.inputs:
        return [_present(name, "input", arrays) for name in spec.inputs]
    possible = _possible_inputs(target, arrays)
    if not possible:
        raise unreadable(
            "No array of the probe can be the inputs: expected a numeric array, samples first, "
            f"found {describe(arrays)}.",
            hint="Save the inputs as an array named 'x' with one row a sample.",
        )
    return possible


def _possible_inputs(target: str | None, arrays: Mapping[str, ArrayInfo]) -> list[str]:
    """Return the arrays that can be inputs, the likeliest first."""
    others = {
        name: info
        for name, info in arrays.items()
        if info.is_numeric and info.shape and name != target
    }
    # One number a sample is an input, too, of users or items say; but seldom the first one.
    rivals = {name: info for name, info in others.items() if len(info.shape) > 1} or others
    if not rivals:
        return []
    customary = [name for name in INPUT_NAMES if name in rivals]
    first = (customary or [max(rivals, key=lambda name: rivals[name].nbytes)])[0]
    # An array of other samples is no input beside the first one: training data beside test data.
    alike = [name for name in others if others[name].shape[0] == others[first].shape[0]]
    return [first, *(name for name in alike if name != first)]


def possible_targets(samples: int, arrays: Mapping[str, ArrayInfo]) -> tuple[str, ...]:
    """Return the arrays that could be targets of so many samples, one label a sample first.

    Of numbers with fractions only one a sample: rows of them are rather inputs.
    """
    found = [
        (prod(info.shape[1:]) > 1, name)
        for name, info in arrays.items()
        if info.may_be_targets
        and info.shape[:1] == (samples,)
        and ("float" not in info.dtype or prod(info.shape[1:]) == 1)
    ]
    return tuple(name for _, name in sorted(found, key=itemgetter(0)))


def told_by_file(inputs: Sequence[str], target: str | None, arrays: Mapping[str, ArrayInfo]) -> str:
    """Return what makes an array the input, where a spec need not say so, in words; else nothing.

    A spec that was completed names the input, too, so it does not tell who chose it.
    """
    if list(inputs) == [ALL_COLUMNS]:
        return f"its columns of numbers, side by side as one array {ALL_COLUMNS!r}"
    if len(inputs) != 1 or list(inputs) != _possible_inputs(target, arrays):
        return ""
    first = inputs[0]
    others = {name: info for name, info in arrays.items() if name not in {first, target}}
    if not any(info.is_numeric and info.shape for info in others.values()):
        return f"array {first!r}, the only one that can be an input"
    if first in INPUT_NAMES:
        return f"array {first!r}, which has a customary name of inputs"
    return f"array {first!r}, the largest with rows of numbers"


def reasons_against(
    inputs: Sequence[str], target: str | None, arrays: Mapping[str, ArrayInfo]
) -> dict[str, str]:
    """Say why each array that is no input, no part of one and not the targets is none."""
    columns = {column for name in inputs for column in arrays[name].columns}
    samples = arrays[inputs[0]].shape[0]
    return {
        name: _against(info, samples, is_column=bool(columns))
        for name, info in arrays.items()
        if name not in {*inputs, target, *columns}
    }


def _against(info: ArrayInfo, samples: int, *, is_column: bool) -> str:
    """Say why an array is no input, as it follows the array's name."""
    if not info.is_numeric:
        return "with no numbers"
    if not info.shape:
        return "with a single number"
    if info.shape[0] != samples:
        return f"{OTHER_SAMPLES} ({info.shape[0]:,}, not {samples:,})"
    if is_column:
        return "not among the columns side by side"
    return "not among the inputs that the spec names"


def check_transforms_named(
    spec: ProbeSpec, inputs: Sequence[str], arrays: Mapping[str, ArrayInfo]
) -> None:
    """Refuse a transform for an array that is no input.

    Raises:
        JobError: `probe_unreadable`.
    """
    named = spec.transform if isinstance(spec.transform, dict) else {}
    strange = next((name for name in named if name not in inputs), None)
    if strange is not None:
        raise unreadable(
            f"The spec gives a transform for {strange!r}, which is no array of inputs; the file "
            f"holds {describe(arrays)}.",
            hint=f'Name one of these in "transform": {", ".join(map(repr, inputs[:8]))}.',
        )


def describe(arrays: Mapping[str, ArrayInfo], most: int = 8) -> str:
    """Return the arrays of a file in words, for a message."""
    listed = [
        f"{name[:60]!r} {info.dtype} {shape_text(info.shape)}"
        for name, info in list(arrays.items())[:most]
    ]
    if len(arrays) > most:
        listed.append(f"{len(arrays) - most} more")
    return ", ".join(listed) or "no arrays"


def _partners(name: str) -> list[str]:
    """Return the targets that customarily go with inputs of this name: `y_test` with `x_test`."""
    return [letter + name[1:] for letter in {"x": "y", "X": "Yy"}.get(name[0], "")]


def _present(name: str, role: str, arrays: Mapping[str, ArrayInfo]) -> str:
    if name not in arrays:
        raise unreadable(
            f"The spec names {name!r} as {role}, which the file does not hold; it holds "
            f"{describe(arrays)}.",
            hint=f'Set "{role}" in the spec to one of the names in the file.',
        )
    return name
