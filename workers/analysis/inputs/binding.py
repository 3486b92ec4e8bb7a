"""Which array of a probe each argument of a model gets: by name, by order, or by proof."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, permutations

from service.contract.failures import FailureCode
from workers.extraction.trace.signature import Argument, tensor_positions
from workers.probes.containers.inference import INPUT_NAMES, OTHER_SAMPLES, SHARED
from workers.probes.probe import ProbeData
from workers.protocol.errors import JobError

_ORDERS = 24
"""Orders of arrays that are tried, all of four arrays: each is a run of the model."""

_LISTED = 8


@dataclass(frozen=True, slots=True)
class Binding:
    """An array for each argument that is given.

    Attributes:
        arrays: The array's name by the argument's position.
        why: How it is known, in words.
        warning: What contradicts it, in words; empty if nothing does.
        is_guess: Names speak against it, so that it is asked about even if it is the only one.
    """

    arrays: Mapping[int, str]
    why: str
    warning: str = ""
    is_guess: bool = False


@dataclass(frozen=True, slots=True)
class _Known:
    """What is settled before anything is tried.

    Attributes:
        arguments: The model's.
        positions: Those of them that take tensors.
        arrays: The probe's candidates, the likeliest inputs first.
        against: Why each of its other arrays is none.
        told_by_file: What makes an array the only input without a spec, in words; else empty.
        columns: Of a table: the names of the columns that are side by side in its input.
    """

    arguments: Sequence[Argument]
    positions: Sequence[int]
    arrays: Sequence[str]
    against: Mapping[str, str]
    told_by_file: str
    columns: Sequence[str]

    @property
    def needed(self) -> list[int]:
        return [p for p in self.positions if self.arguments[p].default is None]


def find_bindings(arguments: Sequence[Argument], probe: ProbeData) -> list[Binding]:
    """Return the bindings that spec and names leave open; a single one is settled.

    Args:
        arguments: What the model takes.
        probe: The arrays that can be inputs, the likeliest first, and what its owner says of them.

    Raises:
        JobError: `input_mismatch` if there is none, with what each side has.
    """
    spec, positions = probe.spec, tensor_positions(arguments)
    arrays = list(probe.stored)
    known = _Known(arguments, positions, arrays, probe.against, probe.told_by_file, probe.columns)
    if isinstance(spec.input, dict):
        return [_by_mapping(known, spec.input)]
    if spec.input is not None and not known.told_by_file:
        return [_by_order(known, spec.inputs)]
    by_file = None if spec.input is None else [_by_order(known, spec.inputs)]
    bindings = by_file or _by_name(known, spec.target)
    _check_namesakes(known, bindings[0])
    return bindings


def _by_mapping(known: _Known, mapping: Mapping[str, str]) -> Binding:
    places = {known.arguments[p].name: p for p in known.positions}
    unknown = [name for name in mapping if name not in places]
    missing = [known.arguments[p].name for p in known.needed]
    missing = [name for name in missing if name not in mapping]
    if unknown or missing:
        wrong = f"no argument {unknown[0]!r}" if unknown else f"an argument {missing[0]!r}, too"
        raise _miscounted(known, f"the probe's spec names arrays for {', '.join(mapping)}", wrong)
    found = {places[name]: array for name, array in mapping.items()}
    return Binding(dict(sorted(found.items())), "as the probe's spec says")


def _by_order(known: _Known, names: Sequence[str]) -> Binding:
    if not len(known.needed) <= len(names) <= len(known.positions):
        found = f"the probe's spec names {_listed(names)}"
        if known.told_by_file:
            found = f"the probe gives {known.told_by_file}"
        raise _miscounted(known, found)
    places = {known.arguments[p].key: p for p in known.positions}
    by_name = [places[name] for name in names if name in places]
    in_order = by_name == sorted(by_name) and len(by_name) == len(names)
    if in_order and set(known.needed) <= set(by_name):
        return Binding(dict(zip(by_name, names, strict=True)), "by name, as the probe's spec says")
    # Arguments that must be given come first; an optional one is filled where more arrays are.
    given = known.needed if len(names) == len(known.needed) else known.positions[: len(names)]
    bound = dict(zip(given, names, strict=True))
    contradicted = [
        (known.arguments[position].key, name)
        for position, name in bound.items()
        if name in places and places[name] != position
    ]
    warning = _contradiction(known, *contradicted[0]) if contradicted else ""
    why = "the only input" if len(names) == 1 else "in the order of the probe's spec"
    return Binding(bound, why, warning)


def _contradiction(known: _Known, taker: str, name: str) -> str:
    """Return the warning of an argument that got an array with the name of another one."""
    if known.told_by_file:
        return (
            f"argument_names: the probe gives {known.told_by_file}, and it went to the model's "
            f"argument {taker!r}, which must be given. The model has an argument {name!r}, too, "
            f"which got nothing. If the names are right, add an array for {taker!r}."
        )
    return (
        f"argument_names: the probe's spec gives the array {name!r} to the model's argument "
        f"{taker!r}, and the model has an argument {name!r}. The spec was followed. If the names "
        "are right, leave `input` out."
    )


def _by_name(known: _Known, target: str | None) -> list[Binding]:
    named: dict[int, str] = {}
    for position in known.positions:
        argument = known.arguments[position]
        matches = [name for name in (argument.name, argument.key) if name in known.arrays]
        if matches and matches[0] not in named.values():
            named[position] = matches[0]
    missing = [position for position in known.needed if position not in named]
    taken_for_target = [p for p in missing if known.arguments[p].key == target]
    if taken_for_target:
        taker = known.arguments[taken_for_target[0]].name
        raise _miscounted(
            known,
            f"its array {target!r} was taken for the targets",
            hint=f'If {target!r} is what the argument {taker!r} takes, set "input": '
            f"{_as_spec(known, {**named, taken_for_target[0]: str(target)})} in the probe's spec, "
            'and "target" to the array with the targets, or to null.',
        )
    left = [name for name in known.arrays if name not in named.values()]
    if named and not missing:
        return [Binding(_sorted(named), "by name")]
    missing = missing or [known.positions[0]]  # a model that needs nothing is given something
    if len(missing) > len(left):
        raise _miscounted(known, f"the probe has {_listed(known.arrays)}")
    if len(missing) == 1:
        customary = [name for name in left if name in INPUT_NAMES]
        why = "the only array that can be it" if len(left) == 1 else "by its customary name"
        # Beside arguments that have their arrays, a name that fits none is no accident.
        is_guess = bool(named) and not customary
        return [
            Binding(_sorted({**named, missing[0]: name}), why, is_guess=is_guess)
            for name in customary or left
        ]
    return [
        Binding(_sorted({**named, **dict(zip(missing, order, strict=True))}), "")
        for order in islice(permutations(left, len(missing)), _ORDERS)
    ]


def _check_namesakes(known: _Known, binding: Binding) -> None:
    """Refuse to leave out an optional argument whose namesake in the probe cannot be given."""
    for position in known.positions:
        argument = known.arguments[position]
        if position in binding.arrays or argument.key not in known.against:
            continue
        others = {name: why for name, why in known.against.items() if name != argument.key}
        raise _miscounted(
            replace(known, against=others),
            f"its array {argument.key!r}, {known.against[argument.key]}, cannot be given to the "
            f"argument {argument.name!r}",
            hint="Store it as numbers, with one row for each sample; or set "
            f'"input": {_as_spec(known, binding.arrays)} in the probe\'s spec to leave it out.',
        )


def widened(
    arguments: Sequence[Argument], binding: Binding, arrays: Sequence[str]
) -> list[Binding]:
    """Return the same binding with one array more, given to an optional argument that got none.

    Args:
        arguments: What the model takes.
        binding: What it got.
        arrays: The probe's arrays that can be inputs.
    """
    left = [name for name in arrays if name not in binding.arrays.values()]
    free = [p for p in tensor_positions(arguments) if p not in binding.arrays]
    found = (
        Binding(_sorted({**binding.arrays, position: name}), "")
        for position in free
        for name in left
    )
    return list(islice(found, _ORDERS))


def _sorted(bound: Mapping[int, str]) -> dict[int, str]:
    return dict(sorted(bound.items()))


def _as_spec(known: _Known, bound: Mapping[int, str]) -> str:
    return as_spec(known.arguments, Binding(bound, ""))


def as_spec(arguments: Sequence[Argument], binding: Binding) -> str:
    """Return a binding as one writes it into a spec, for its `input`."""
    by_argument = {arguments[p].name: name for p, name in sorted(binding.arrays.items())}
    return json.dumps(by_argument)


def choice_needed(
    arguments: Sequence[Argument], arrays: Sequence[str], running: Sequence[Binding]
) -> JobError:
    """Return the question which of several bindings is meant, all of which the model runs on."""
    listed = ", or ".join(f'"input": {as_spec(arguments, each)}' for each in running[:_LISTED])
    return JobError(
        FailureCode.INPUT_MISMATCH,
        f"The model takes {_signature(arguments)}, and the probe has {_listed(arrays)}. Their "
        f"names do not say which argument gets which; the model runs on {_ways(len(running))}.",
        hint=f"Say which is meant in the probe's spec: {listed} (tried: it runs).",
        detail={
            "code": "ambiguous_input",
            "inputs": [{arguments[p].name: n for p, n in each.arrays.items()} for each in running],
        },
    )


def _ways(count: int) -> str:
    return "one way to give them" if count == 1 else f"{count} ways to give them"


def _miscounted(known: _Known, found: str, wrong: str = "", hint: str = "") -> JobError:
    message = f"The model takes {_signature(known.arguments)}; {found}."
    if wrong:
        message += f" The model has {wrong}."
    if known.against:
        message += f" {'The probe' if wrong else 'It'} also has {_with_reasons(known.against)}."
    return JobError(
        FailureCode.INPUT_MISMATCH,
        message,
        hint=hint or _what_to_give(known),
        detail={
            "expected": {"inputs": [f"{a.name}: {a.type}" for a in known.arguments[:_LISTED]]},
            "arrays": list(known.arrays),
        },
    )


def _what_to_give(known: _Known) -> str:
    """Return arrays for all arguments, or why those of their names are none."""
    needed = [known.arguments[position] for position in known.needed or known.positions[:1]]
    columns = {each.name: each.key for each in needed if each.key in known.columns}
    template = json.dumps({each.name: f"array for {each.name}" for each in needed} | columns)
    naming = (
        f'Name an array of the probe for each argument in its spec: "input": {template}; or save '
        "the model inside a module that takes what the probe has."
    )
    namesakes = [
        each.key for each in needed if known.against.get(each.key, "").startswith(OTHER_SAMPLES)
    ]
    if not namesakes:
        return naming
    shared = f"The argument {namesakes[0]!r} cannot be given the array of its name. {SHARED}"
    has_all = all(each.key in (*known.arrays, *namesakes) for each in needed)
    return shared if has_all else f"{shared} {naming}"


def _with_reasons(against: Mapping[str, str]) -> str:
    """Return arrays with why each is no input; those of one reason together."""
    together: dict[str, list[str]] = {}
    for name, reason in islice(against.items(), _LISTED):
        together.setdefault(reason, []).append(name)
    parts = [f"{_listed(names)}, {reason}" for reason, names in together.items()]
    return "; ".join(parts) + " …" * (len(against) > _LISTED)


def _signature(arguments: Sequence[Argument]) -> str:
    shown = [
        f"{a.name}: {a.type}" + ("" if a.default is None else f" = {a.default}")
        for a in arguments[:_LISTED]
    ]
    more = ", …" if len(arguments) > _LISTED else ""
    return f"({', '.join(shown)}{more})"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_LISTED])
    return f"{'array' if len(names) == 1 else 'arrays'} {shown}{' …' * (len(names) > _LISTED)}"
