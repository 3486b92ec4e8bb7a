"""What is asked where neither the values of a probe nor the model tell how it is meant."""

import json
from collections.abc import Iterator, Sequence
from itertools import islice, product

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from service.contract.failures import FailureCode
from service.contract.transform import Transform
from workers.analysis.inputs.scale import Scale, largest_value
from workers.analysis.inputs.trying import Running
from workers.probes.containers.container import shape_text
from workers.protocol.errors import JobError

_READINGS = 8
"""Readings written out at most."""


def which_reading(running: Running, scales: Sequence[Scale]) -> JobError:
    """Return the question which of the readings that are left is meant.

    Args:
        running: The forms that the model runs on.
        scales: What is known of each input's scale.
    """
    open_inputs = [k for k, scale in enumerate(scales) if scale.divisor is None]
    readings = list(_readings(running, scales, open_inputs))
    arrays = list(running.trial.binding.arrays.values())
    asked = [arrays[k] for k in open_inputs] or arrays
    stored = running.trial.probe.stored[asked[0]]
    kinds = []
    if open_inputs:
        kinds.append(f"whether its values are divided by {_divisor(stored)}")
    if running.rivals:
        kinds.append("whether its channels, which come last, are put first")
    reason = f" {scales[open_inputs[0]].why}" if open_inputs else ""
    written = [_written(running, reading) for reading in readings]
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
    running: Running, scales: Sequence[Scale], open_inputs: Sequence[int]
) -> Iterator[tuple[Transform, ...]]:
    for combination in (running.forms, *running.rivals):
        choices = [
            [_divisor(stored), 1] if k in open_inputs else [scales[k].divisor or 1]
            for k, stored in enumerate(running.trial.stored())
        ]
        for divisors in islice(product(*choices), _READINGS):
            yield tuple(
                scaled(form, divisor, is_said=k in open_inputs)
                for k, (form, divisor) in enumerate(zip(combination, divisors, strict=True))
            )


def _written(running: Running, reading: Sequence[Transform]) -> str:
    """Return a reading as one writes it into a spec; by the arrays' names if there are several."""
    said = running.trial.said
    shown = [_keys(transform, said[k]) for k, transform in enumerate(reading)]
    if len(shown) == 1:
        return f'"transform": {json.dumps(shown[0])}'
    named = {
        array: keys
        for array, keys, given in zip(
            running.trial.binding.arrays.values(), shown, said, strict=True
        )
        if keys or given is not None
    }
    return f'"transform": {json.dumps(named)}'


def scaled(form: Transform, divisor: int, *, is_said: bool = False) -> Transform:
    """Return a form with its scale; 1 is only written where it answers a question."""
    if divisor == 1 and not is_said:
        return form
    return Transform.model_validate({**form.model_dump(mode="json"), "scale": 1 / divisor})


def _divisor(stored: npt.NDArray[np.generic]) -> int:
    return largest_value(stored) or 1


def _keys(transform: Transform, said: Transform | None) -> dict[str, JsonValue]:
    """Return a transform in a spec, its scale as a fraction; the dtype follows the model."""
    keys: dict[str, JsonValue] = transform.model_dump(mode="json")
    if said is None or said.dtype is None:
        keys.pop("dtype", None)
    if (scale := transform.scale) is not None:
        divisor = round(1 / scale) if scale > 0 else 0
        keys["scale"] = 1 if scale == 1 else scale
        if divisor > 1 and scale == 1 / divisor:
            keys["scale"] = f"1/{divisor}"
    return keys
