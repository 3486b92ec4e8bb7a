"""Settling what a model gets of a probe, with the model in view."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from pydantic import JsonValue
from torch import nn

from service.contract.failures import FailureCode
from service.contract.probe_spec import ProbeSpec
from service.contract.transform import Transform
from workers.analysis.inputs.binding import Binding, choice_needed, find_bindings, widened
from workers.analysis.inputs.plausible import implausible, unlike
from workers.analysis.inputs.questions import scaled, which_reading
from workers.analysis.inputs.scale import same_answers
from workers.analysis.inputs.trying import Running, Trial
from workers.analysis.inputs.words import in_words, notes
from workers.extraction.trace.signature import read_arguments
from workers.extraction.trace.state import Buffers
from workers.probes.probe import ProbeData
from workers.protocol.errors import JobError

_WIDENED = 4
"""Of several bindings, those to which further arrays are added: each of these is a run."""


@dataclass(frozen=True)
class GivenInput:
    """One input as a model gets it.

    Attributes:
        argument: The argument's name.
        array: The array's name.
        stored: Its dtype in the file.
        transform: All that is done to it.
        done: The same in words, with the reasons.
    """

    argument: str
    array: str
    stored: str
    transform: Transform
    done: str


@dataclass(frozen=True)
class Fitted:
    """A model and a probe that go together.

    Attributes:
        model: The model, called with the tensors of a batch.
        probe: Gives such batches.
        inputs: What each tensor is.
        notes: What was inferred and is no input's own matter, in sentences.
        warnings: What a reader of the figures must know, each as `code: sentence`.
    """

    model: nn.Module
    probe: ProbeData
    inputs: tuple[GivenInput, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def fit_alike(model: nn.Module, probe: ProbeData, first: Fitted, device: str) -> Fitted:
    """Give a second probe to a model as the first one was given, where its own spec says nothing.

    Args:
        model: The model, as it was loaded.
        probe: The second probe.
        first: The first one.
        device: Where the model is.

    Raises:
        JobError: As `fit`; `input_mismatch` if other arguments would be given than before.
    """
    arrays = probe.spec.inputs or [each.array for each in first.inputs]
    fitted = None
    if probe.spec.transform is None and _stored_alike(probe, arrays, first):
        pairs = list(zip(first.inputs, arrays, strict=True))
        keys = {
            **probe.spec.model_dump(mode="json"),
            "input": {each.argument: array for each, array in pairs},
            "transform": {array: _without_dtype(each) for each, array in pairs},
        }
        likewise = replace(probe, spec=ProbeSpec.model_validate(keys))
        fitted = fit(model, likewise, device, authority="as for the first probe")
    fitted = fitted or fit(model, probe, device)
    before, now = ([each.argument for each in one.inputs] for one in (first, fitted))
    if before != now:
        raise JobError(
            FailureCode.INPUT_MISMATCH,
            f"It gives the model's arguments {', '.join(now)}, and the first probe gave "
            f"{', '.join(before)}; expected the same.",
            hint=f'Name an array for each of {", ".join(before)} in its spec, as "input": '
            f"{json.dumps(dict.fromkeys(before, 'an array'))}.",
        )
    return replace(fitted, warnings=(*fitted.warnings, *unlike(first.probe, fitted.probe)))


def _stored_alike(probe: ProbeData, arrays: Sequence[str], first: Fitted) -> bool:
    """Return whether arrays have the number types of those of the first probe; floats are alike."""
    if len(arrays) != len(first.inputs) or any(name not in probe.stored for name in arrays):
        return False
    types = [
        (probe.stored[name].dtype.name, each.stored)
        for name, each in zip(arrays, first.inputs, strict=True)
    ]
    return all(a == b or (a[:5] == b[:5] == "float") for a, b in types)


def _without_dtype(given: GivenInput) -> dict[str, JsonValue]:
    """Return a transform whose dtype follows the model, unless whole numbers are made of floats."""
    keys: dict[str, JsonValue] = given.transform.model_dump(mode="json")
    if str(keys.get("dtype", "")).startswith("float"):
        del keys["dtype"]
        keys.setdefault("scale", 1)  # what was settled is not asked again
    return keys


@torch.inference_mode()
def fit(
    model: nn.Module,
    probe: ProbeData,
    device: str = "cpu",
    *,
    authority: str = "as the probe's spec says",
) -> Fitted:
    """Settle which array each argument of a model gets, and what is done to its values.

    Args:
        model: The model, as it was loaded.
        probe: The samples.
        device: Where the model is.
        authority: In words, why things are as the spec has them.

    Returns:
        Both, ready to be run.

    Raises:
        JobError: `input_mismatch` if the model runs on nothing that the probe can give, or if more
            than one way is left to give it; then each of them is in the hint, and was tried.
    """
    with Buffers(model):  # trying is no run
        return _fit(model, probe, device, authority)


def _fit(model: nn.Module, probe: ProbeData, device: str, authority: str) -> Fitted:
    arguments = read_arguments(model)
    bindings = find_bindings(arguments, probe)
    trials = [Trial(model, arguments, probe, each, device, authority) for each in bindings]
    running: list[Running] = []
    for any_size in (False, True):
        found = (trial.search(any_size=any_size) for trial in trials)
        running = running or [each for each in found if each is not None]
    if not running:
        raise trials[0].explained()
    possible = [found.trial.binding for found in running]
    possible += [binding for found in running[:_WIDENED] for binding in _fuller(found)]
    if len(possible) > 1 or possible[0].is_guess:
        raise choice_needed(arguments, list(probe.stored), possible)
    return _settled(running[0], proved=len(bindings) > 1)


def _fuller(running: Running) -> Iterator[Binding]:
    """Yield bindings of one array more on which the model answers otherwise, if nobody chose.

    An array whose name no argument has may still be meant for one that need not be given, such as
    `lens` for `lengths`: the model would run without it, and judge padding.
    """
    trial = running.trial
    if trial.probe.spec.input is not None:
        return
    for binding in widened(trial.arguments, trial.binding, list(trial.probe.stored)):
        found = replace(trial, binding=binding).search(any_size=False)
        if found is not None and not same_answers(running.outputs, found.outputs):
            yield binding


def _settled(running: Running, *, proved: bool) -> Fitted:
    """Return the model and the probe, with what is done to each input.

    Args:
        running: The forms that the model runs on.
        proved: Whether running was what told this binding from others.
    """
    trial, scales = running.trial, running.scales()
    if running.rivals or any(scale.divisor is None for scale in scales):
        raise which_reading(running, scales)
    binding = trial.binding
    if proved:
        binding = replace(binding, why="the only way to give the arrays that the model runs on")
    inputs = []
    for (position, array), form, scale, said in zip(
        binding.arrays.items(), running.forms, scales, trial.said, strict=True
    ):
        stored, transform = trial.probe.stored[array], scaled(form, scale.divisor or 1)
        done = in_words(array, stored, transform, scale, said)
        name = trial.arguments[position].name
        inputs.append(GivenInput(name, array, stored.dtype.name, transform, done))
    return Fitted(
        trial.called,
        trial.probe.given({each.array: each.transform for each in inputs}),
        tuple(inputs),
        tuple(notes(trial, binding)),
        (
            *((binding.warning,) if binding.warning else ()),
            *implausible(trial, [each.transform for each in inputs]),
        ),
    )
