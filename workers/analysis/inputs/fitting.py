"""Settling what a model gets of a probe, with the model in view."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product

import numpy as np
import numpy.typing as npt
import torch
from pydantic import JsonValue
from torch import nn

from service.failures import FailureCode
from service.probes.spec import ProbeSpec, Transform
from workers.analysis.inputs.binding import Binding, as_spec, choice_needed, find_bindings
from workers.analysis.inputs.forms import forms, likely_floats
from workers.analysis.inputs.scale import Scale, said_scale, same_answers, shown_scale
from workers.errors import JobError
from workers.extraction.execution import Batch, Output
from workers.extraction.fit.mismatch import CorrectableError, explain
from workers.extraction.recording import first_run
from workers.extraction.signature import Argument, Called, read_arguments
from workers.probes.container import shape_text
from workers.probes.probe import ProbeData

_ROWS = 16
_TRIES = 64
"""Combinations of forms tried for one binding: three inputs of four forms each."""


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
    """Gives a second probe to a model as the first one was given, where its own spec says nothing.

    Args:
        model: The model, as it was loaded.
        probe: The second probe.
        first: The first one.
        device: Where the model is.

    Raises:
        JobError: As `fit`; `input_mismatch` if other arguments would be given than before.
    """
    arrays = probe.spec.inputs or [each.array for each in first.inputs]
    dtypes = [probe.stored[name].dtype.name for name in arrays if name in probe.stored]
    fitted = None
    if probe.spec.transform is None and dtypes == [each.stored for each in first.inputs]:
        by_argument = zip((each.argument for each in first.inputs), arrays, strict=True)
        keys = {
            **probe.spec.model_dump(mode="json"),
            "input": dict(by_argument),
            "transform": [each.transform.model_dump(mode="json") for each in first.inputs],
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
    return fitted


@torch.inference_mode()
def fit(
    model: nn.Module,
    probe: ProbeData,
    device: str = "cpu",
    *,
    authority: str = "as the probe's spec says",
) -> Fitted:
    """Settles which array each argument of a model gets, and what is done to its values.

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
    arguments = read_arguments(model)
    spec = probe.spec
    bindings = find_bindings(arguments, spec, list(probe.stored), probe.others)
    running = [
        found
        for binding in bindings
        if (found := _Trial(model, arguments, probe, binding, device, authority).search())
    ]
    if not running:
        raise _Trial(model, arguments, probe, bindings[0], device, authority).explained()
    if len(running) > 1:
        raise choice_needed(
            arguments, list(probe.stored), [found.trial.binding for found in running]
        )
    return running[0].settled(proved=len(bindings) > 1)


@dataclass(frozen=True)
class _Trial:
    """One binding of a probe's arrays to a model's arguments, to be tried."""

    model: nn.Module
    arguments: Sequence[Argument]
    probe: ProbeData
    binding: Binding
    device: str
    authority: str

    @property
    def called(self) -> Called:
        return Called(self.model, list(self.binding.arrays))

    @property
    def said(self) -> list[Transform | None]:
        """What the spec says is done to each input, in the order of the arguments."""
        named = self.probe.spec.inputs or list(self.binding.arrays.values())
        return [
            self.probe.spec.transform_of(named.index(array))
            for array in self.binding.arrays.values()
        ]

    def stored(self) -> list[npt.NDArray[np.generic]]:
        return [self.probe.stored[array] for array in self.binding.arrays.values()]

    def search(self) -> "_Running | None":
        """The first combination of forms that the model runs on, and what it answers then."""
        for forms_tried in self._combinations():
            outputs = self._run(forms_tried)
            if outputs is not None:
                rivals = list(self._rivals(forms_tried, outputs))
                return _Running(self, forms_tried, outputs, rivals)
        return None

    def _rivals(
        self, found: Sequence[Transform], outputs: Sequence[Output]
    ) -> Iterator[tuple[Transform, ...]]:
        """Other layouts that the model runs on, too, with other answers."""
        for combination in self._combinations():
            pairs = list(zip(found, combination, strict=True))
            if all(a.layout == b.layout for a, b in pairs) or any(
                a.dtype != b.dtype for a, b in pairs
            ):
                continue
            others = self._run(combination)
            if others is not None and not same_answers(outputs, others):
                yield combination

    def explained(self) -> JobError:
        """Why the model runs on nothing that it was given."""
        first = next(self._combinations())
        batch = self.batch(first)
        try:
            first_run(self.called, batch, _ROWS)
        except JobError as refused:
            error = explain(self.called, batch, refused)
            if isinstance(error, CorrectableError) and len(first) == 1:
                return error.after(first[0])
            return error
        raise AssertionError("a model that runs on nothing ran")

    def batch(self, combination: Sequence[Transform]) -> Batch:
        """The first samples, in these forms."""
        tensors = []
        for array, transform in zip(self.binding.arrays.values(), combination, strict=True):
            each = self.probe.read_as(array, transform)
            tensors.append(each.transform(each.stored[:_ROWS]).to(self.device))
        return tuple(tensors)

    def _combinations(self) -> Iterator[tuple[Transform, ...]]:
        options = [
            forms(stored, said, likely_floats(self.model, position))
            for position, stored, said in zip(
                self.binding.arrays, self.stored(), self.said, strict=True
            )
        ]
        return islice(product(*options), _TRIES)

    def _run(self, combination: Sequence[Transform]) -> list[Output] | None:
        try:
            return first_run(self.called, self.batch(combination), _ROWS)[1]
        except JobError as error:
            if error.failure.code is FailureCode.INPUT_MISMATCH:
                return None
            if error.failure.code is FailureCode.UNSUPPORTED_MODEL:
                return []  # it ran; that nothing of its results can be read is said later
            raise


@dataclass(frozen=True)
class _Running:
    """A combination of forms that a model runs on.

    Attributes:
        trial: The binding.
        forms: A transform for each input, without the scale that may be missing.
        outputs: What the model answered.
        rivals: Combinations with other layouts that it runs on, too, and answers otherwise.
    """

    trial: _Trial
    forms: tuple[Transform, ...]
    outputs: Sequence[Output]
    rivals: list[tuple[Transform, ...]]

    def settled(self, *, proved: bool) -> Fitted:
        """The model and the probe, with what is done to each input.

        Args:
            proved: Whether running was what told this binding from others.
        """
        trial = self.trial
        scales = self._scales()
        open_inputs = [k for k, scale in enumerate(scales) if scale.divisor is None]
        if open_inputs or self.rivals:
            raise self._open(scales, open_inputs)
        transforms = [
            _scaled(form, scale.divisor or 1)
            for form, scale in zip(self.forms, scales, strict=True)
        ]
        binding = trial.binding
        if proved:
            binding = replace(binding, why="the only way to give the arrays that the model runs on")
        inputs = tuple(
            self._describe(position, array, transform, scale, said)
            for (position, array), transform, scale, said in zip(
                binding.arrays.items(), transforms, scales, trial.said, strict=True
            )
        )
        given = dict(zip(binding.arrays.values(), transforms, strict=True))
        probe = trial.probe.given(given)
        return Fitted(
            trial.called,
            probe,
            inputs,
            tuple(_notes(trial, binding)),
            (binding.warning,) if binding.warning else (),
        )

    def _scales(self) -> list[Scale]:
        batch: Batch | None = None
        scales = []
        for place, (stored, said, form) in enumerate(
            zip(self.trial.stored(), self.trial.said, self.forms, strict=True)
        ):
            scale = said_scale(stored, said, form, self.trial.authority)
            if scale is None:
                batch = (
                    batch or first_run(self.trial.called, self.trial.batch(self.forms), _ROWS)[0]
                )
                scale = shown_scale(self.trial.called, batch, place, stored)
            scales.append(scale)
        return scales

    def _describe(
        self, position: int, array: str, transform: Transform, scale: Scale, said: Transform | None
    ) -> GivenInput:
        stored = self.trial.probe.stored[array]
        return GivenInput(
            self.trial.arguments[position].name,
            array,
            stored.dtype.name,
            transform,
            _in_words(array, stored, transform, scale, said),
        )

    def _open(self, scales: Sequence[Scale], open_inputs: Sequence[int]) -> JobError:
        """The question which of the readings that are left is meant."""
        readings = list(self._readings(scales, open_inputs))
        arrays = list(self.trial.binding.arrays.values())
        asked = [arrays[k] for k in open_inputs] or arrays
        stored = self.trial.probe.stored[asked[0]]
        kinds = []
        if open_inputs:
            kinds.append(f"whether its values are divided by {_divisor(stored)}")
        if self.rivals:
            kinds.append("whether its channels, which come last, are put first")
        reason = f" {scales[open_inputs[0]].why}" if open_inputs else ""
        written = [self._written(reading) for reading in readings]
        return JobError(
            FailureCode.INPUT_MISMATCH,
            f"The probe's {asked[0]!r} holds {stored.dtype.name} {shape_text(stored.shape)}, "
            f"values from {stored.min()} to {stored.max()}, and neither the values nor the model "
            f"tell {' and '.join(kinds)}; the model runs either way, on other numbers.{reason}",
            hint="Set what was done in training in the probe's spec: "
            + ", or ".join(written)
            + " (tried: each runs). Add mean and std if the values were normalised with them.",
            detail={
                "code": "ambiguous_input",
                "array": asked[0],
                "readings": [
                    [each.model_dump(mode="json") for each in reading] for reading in readings
                ],
            },
        )

    def _readings(
        self, scales: Sequence[Scale], open_inputs: Sequence[int]
    ) -> Iterator[tuple[Transform, ...]]:
        for combination in (self.forms, *self.rivals):
            choices = [
                [_divisor(stored), 1] if k in open_inputs else [scales[k].divisor or 1]
                for k, stored in enumerate(self.trial.stored())
            ]
            for divisors in islice(product(*choices), 4):
                yield tuple(
                    _scaled(form, divisor, is_said=k in open_inputs)
                    for k, (form, divisor) in enumerate(zip(combination, divisors, strict=True))
                )

    def _written(self, reading: Sequence[Transform]) -> str:
        """A reading as one writes it into a spec; with the arrays' names if there are several."""
        shown = [_json(transform, self.trial.said[k]) for k, transform in enumerate(reading)]
        if len(shown) == 1:
            return f'"transform": {shown[0]}'
        names = as_spec(self.trial.arguments, self.trial.binding)
        return f'"input": {names}, "transform": [{", ".join(shown)}]'


def _divisor(stored: npt.NDArray[np.generic]) -> int:
    return 65535 if stored.dtype == np.uint16 else 255


def _scaled(form: Transform, divisor: int, *, is_said: bool = False) -> Transform:
    """A form with its scale; 1 is only written where it answers a question."""
    if divisor == 1 and not is_said:
        return form
    return Transform.model_validate({**form.model_dump(mode="json"), "scale": 1 / divisor})


def _json(transform: Transform, said: Transform | None) -> str:
    """A transform in a spec, with the fraction that its scale is; the dtype follows the model."""
    keys: dict[str, JsonValue] = transform.model_dump(mode="json")
    if said is None or said.dtype is None:
        keys.pop("dtype", None)
    if (scale := transform.scale) is not None:
        keys["scale"] = 1 if scale == 1 else f"1/{round(1 / scale)}"
    return json.dumps(keys)


def _in_words(
    array: str,
    stored: npt.NDArray[np.generic],
    transform: Transform,
    scale: Scale,
    said: Transform | None,
) -> str:
    """What was done to an input, and why, in one line."""
    done = []
    if transform.layout is not None:
        is_said = said is not None and said.layout is not None
        done.append(f"{transform.layout}{'' if is_said else ' (channels come last in the file)'}")
    if transform.dtype is not None and transform.dtype != stored.dtype.name:
        is_said = said is not None and said.dtype is not None
        done.append(f"as {transform.dtype}{'' if is_said else ', which the model takes'}")
    if transform.scale is not None and transform.scale != 1:
        told = said is not None and said.scale is not None
        factor = f"× {transform.scale:.6g}" if told else f"÷ {scale.divisor}"
        done.append(factor)
    if transform.mean is not None or transform.std is not None:
        done.append("minus mean, ÷ std")
    words = "; ".join(done) or "as stored"
    reason = f": {scale.why}" if scale.why else ""
    return f"{array!r} ({stored.dtype.name} {shape_text(stored.shape)}): {words}{reason}."


def _notes(trial: _Trial, binding: Binding) -> Iterator[str]:
    """Which array went where, where that was no matter of course, and what was left over."""
    names = [trial.arguments[position].name for position in trial.binding.arrays]
    if len(names) > 1 or len(trial.probe.stored) > 1:
        pairs: Mapping[str, str] = dict(zip(names, binding.arrays.values(), strict=True))
        given = ", ".join(f"{name} ← {array!r}" for name, array in pairs.items())
        yield f"The model's arguments got these arrays ({binding.why}): {given}."
    unused = [n for n in trial.probe.stored if n not in binding.arrays.values()]
    unused += trial.probe.others
    if unused:
        listed = ", ".join(map(repr, unused[:16])) + (" …" if len(unused) > 16 else "")  # noqa: PLR2004 -- enough to see which
        yield f"No argument of the model takes {listed}, so this was not used."
