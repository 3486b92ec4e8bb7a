"""Whether the values that a model is given are plausible: what speaks against them is warned of.

Nothing is refused here: the owner said what is done to the values, or they are given as stored. Yet
a model runs on any numbers, so a scale that it was never trained on must not go by without a word.
"""

from collections.abc import Iterator, Sequence
from math import log

import numpy as np
import torch

from service.contract.transform import Transform
from workers.analysis.inputs.scale import are_normalised, largest_value
from workers.analysis.inputs.trying import ROWS, Trial
from workers.extraction.fit.first_steps import first_steps
from workers.extraction.fit.recording import first_run
from workers.extraction.fit.value_range import norm_ratio
from workers.extraction.trace.execution import Batch, copied, execute
from workers.extraction.trace.tape import Tape, storage_key
from workers.probes.probe import ProbeData, StoredInput
from workers.protocol.errors import JobError

_ROWS = 256
_HELD_BYTES = 1 << 28
"""Of a recorded run, all of which is held. Of large images few samples are enough to tell."""

_SPREAD = (0.8, 1.25)
_MEAN = 3.0
_DOUBTS = 1.5
"""What a first batch norm sees of data as in training, in samples drawn evenly from all of a probe,
is 0.95 to 1.07 times as spread as it remembers, in 26 networks trained on digits, MNIST and
CIFAR-10. Given other scales, 60 of them, all saw values less than 0.75 or more than 1.3 times as
spread; the nearest was another mean and deviation. The mean says less: where it follows weights
that still change, it is up to 1.2 deviations off in networks that were trained for short. Few rows
of long-tailed columns leave doubt about their spread."""

_BYTE = 255
_SMALL = 8.0
_BELOW = 0.5
"""Values up to the first were divided by 255 or normalised; below the second, they were normalised,
so that a model that does so itself does it twice."""

_ALIKE = 8.0
"""Two probes of one model whose values differ in spread by more than that are not scaled alike."""


def implausible(trial: Trial, forms: Sequence[Transform]) -> Iterator[str]:
    """Yield what speaks against the values that a model is given, each as `code: sentence`.

    Args:
        trial: The binding.
        forms: All that is done to each input.
    """
    found = [*_multiplied(trial), *_not_normalised(trial, forms)]
    if found:
        yield from found
    elif (run := _recorded(trial, forms, ROWS)) is not None:
        yield from list(_scaled_twice(trial, *run)) or _unlike_training(trial, forms, *run)


def unlike(first: ProbeData, second: ProbeData) -> Iterator[str]:
    """Yield what speaks against two probes being given to a model alike."""
    for one, other in zip(first.inputs, second.inputs, strict=True):
        a, b = sample(one), sample(other)
        if not (a.is_floating_point() and a.std() > 0 and b.std() > 0):
            continue
        ratio = float(b.double().std() / a.double().std())
        if not 1 / _ALIKE <= ratio <= _ALIKE:
            yield (
                f"value_range: the model is given {other.name!r} with {_range(b)}, and was given "
                f"{one.name!r} of the first probe with {_range(a)}. Are both scaled as in "
                "training? If not, set the transform in the spec of each probe."
            )


def sample(given: StoredInput) -> torch.Tensor:
    """Return some samples, evenly from the whole probe, as a model is given them."""
    rows = np.unique(np.linspace(0, len(given.stored) - 1, _ROWS).astype(np.int64))
    return given.transform(given.stored[rows])


def _not_normalised(trial: Trial, forms: Sequence[Transform]) -> Iterator[str]:
    for array, form, said in zip(trial.binding.arrays.values(), forms, trial.said, strict=True):
        if said is None or (said.mean is None and said.std is None):
            continue
        values = sample(trial.probe.read_as(array, form)).double()
        mean, spread = float(values.mean()), float(values.std(correction=0))
        if said.std is None or set(said.std) == {1.0}:  # no more is to be had than a mean of 0
            mean, spread = mean / (spread or 1.0), 1.0
        if not are_normalised(mean, spread):
            yield (
                f"value_range: with the mean and std of the spec, the model is given {array!r} "
                f"with {_range(values)}, {mean:.3g} on average and {spread:.3g} apart; expected "
                "about 0 and 1. Are mean and std of the values as they are stored times `scale`? "
                'Set "scale" in the transform so that they are.'
            )


def _multiplied(trial: Trial) -> Iterator[str]:
    for stored, array, said in zip(
        trial.stored(), trial.binding.arrays.values(), trial.said, strict=True
    ):
        unit = largest_value(stored)
        if unit is not None and said is not None and said.scale is not None and said.scale > 1:
            yield (
                f"value_range: the spec multiplies {array!r} by {said.scale:.4g}, and it holds "
                f'whole numbers up to {stored.max()}. Was "scale": "1/{unit}" meant?'
            )


def _recorded(trial: Trial, forms: Sequence[Transform], rows: int) -> tuple[Batch, Tape] | None:
    """Return a run on samples from the whole probe.

    None for an archive that takes very few at a time, and for samples that a model fails on: what
    is wrong with them is told when they are analysed.
    """
    try:
        batch = first_run(trial.called, trial.batch(forms, spread=rows), rows)[0]
        if len(batch[0]) < min(ROWS, len(trial.probe)):
            return None
        tape = Tape(copies := copied(batch))
        execute(trial.called, copies, tape)
    except JobError:
        return None
    return copies, tape


def _scaled_twice(trial: Trial, batch: Batch, tape: Tape) -> Iterator[str]:
    """Yield what the first steps say of the values: the model may scale or normalise them."""
    for given, array in zip(batch, trial.binding.arrays.values(), strict=True):
        if not given.is_floating_point():
            continue
        steps = first_steps(tape, given)
        least, most = (float(bound) for bound in given.aminmax())
        did = (
            f"the model itself does x · {steps.factor:.4g} {steps.offset:+.4g} first, as is done to"
        )
        match steps.takes_bytes(_BYTE):
            case True if not steps.are_codes and -_SMALL <= least < most <= _SMALL:
                wrong = f"{did} whole numbers up to 255"
            case False if least < -_BELOW or most > _SMALL:
                wrong = f"{did} values from 0 to 1"
            case _:
                continue
        yield (
            f"value_range: {wrong}, and was given {array!r} with {_range(given)}. Are they scaled "
            "as in training? If not, set the transform in the probe's spec; {} leaves the values "
            "as they are stored."
        )


def _unlike_training(
    trial: Trial, forms: Sequence[Transform], batch: Batch, tape: Tape
) -> Iterator[str]:
    """Yield what the first batch norm says of the values of as many samples as memory allows."""
    ratio = norm_ratio(trial.called, tape)
    if ratio is None:
        return
    rows = min(_ROWS, ROWS * _HELD_BYTES // _held(tape))
    more = _recorded(trial, forms, rows) if rows > ROWS else None
    if more is not None:
        batch, ratio = more[0], norm_ratio(trial.called, more[1]) or ratio
    least, most = (log(bound) for bound in _SPREAD)
    doubt = _DOUBTS * ratio.doubt
    is_near = least - doubt <= log(ratio.factor) <= most + doubt
    if is_near and ratio.distance <= _MEAN:
        return
    yield (
        f"value_range: the model was given {_range(batch[0])}, and its first batch norm sees "
        f"values {ratio.factor:.3g} times as spread as in training, their mean "
        f"{ratio.distance:.2g} deviations off; expected about 1 and 0. Are the inputs scaled and "
        "normalised as in training? If not, set transform.scale, transform.mean and transform.std; "
        "if so, the probe's samples are unlike those of the training."
    )


def _held(tape: Tape) -> int:
    """Return bytes of all results that a recorded run holds."""
    results = {storage_key(r): r for step in tape.steps for r in step.outputs}
    return sum(result.nbytes for result in results.values())


def _range(values: torch.Tensor) -> str:
    least, largest = values.aminmax()
    return f"values from {least.item():.4g} to {largest.item():.4g}"
