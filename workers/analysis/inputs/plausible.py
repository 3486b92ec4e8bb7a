"""Whether the values that a model is given are plausible: what speaks against them is warned of.

Nothing is refused here: the owner said what is done to the values, or they are given as stored. Yet
a model runs on any numbers, so a scale that it was never trained on must not go by without a word.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from service.probes.transform import Transform
from workers.analysis.inputs.scale import are_normalised
from workers.analysis.inputs.trying import ROWS, Trial
from workers.extraction.execution import copied, execute
from workers.extraction.fit.value_range import norm_ratio
from workers.extraction.recording import first_run
from workers.extraction.tape import Tape
from workers.probes.probe import ProbeData, StoredInput

_ROWS = 256
_NUMBERS = 1 << 20
"""In the samples that a run is recorded of, as all of it is held; large images tell more each."""

_SPREAD = (0.8, 1.25)
_MEAN = 1.0
"""What a first batch norm sees of data as in training, in samples drawn evenly from all of a probe,
is 0.95 to 1.07 times as spread as it remembers, and its mean at most 0.8 deviations off, in 26
networks trained on digits, MNIST and CIFAR-10. Given other scales, 60 of them, all saw values less
than 0.75 or more than 1.3 times as spread; the nearest was another mean and deviation."""

_ALIKE = 8.0
"""Two probes of one model whose values differ in spread by more than that are not scaled alike."""


def implausible(trial: Trial, forms: Sequence[Transform]) -> Iterator[str]:
    """What speaks against the values that a model is given, each as `code: sentence`.

    Args:
        trial: The binding.
        forms: All that is done to each input.
    """
    told = list(_not_normalised(trial, forms))
    yield from told or _unlike_training(trial, forms)


def unlike(first: ProbeData, second: ProbeData) -> Iterator[str]:
    """What speaks against two probes being given to a model alike."""
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
    """Some samples, evenly from the whole probe, as a model is given them."""
    rows = np.unique(np.linspace(0, len(given.stored) - 1, _ROWS).astype(np.int64))
    return given.transform(given.stored[rows])


def _not_normalised(trial: Trial, forms: Sequence[Transform]) -> Iterator[str]:
    for array, form, said in zip(trial.binding.arrays.values(), forms, trial.said, strict=True):
        if said is None or (said.mean is None and said.std is None):
            continue
        values = sample(trial.probe.read_as(array, form)).double()
        mean, spread = float(values.mean()), float(values.std(correction=0))
        if not are_normalised(mean, spread):
            yield (
                f"value_range: with the mean and std of the spec, the model is given {array!r} "
                f"with {_range(values)}, {mean:.3g} on average and {spread:.3g} apart; expected "
                "about 0 and 1. Are mean and std of the values as they are stored times `scale`? "
                'Set "scale" in the transform so that they are.'
            )


def _unlike_training(trial: Trial, forms: Sequence[Transform]) -> Iterator[str]:
    """What the first batch norm says of the values."""
    size = sum(stored[0].size for stored in trial.stored())
    rows = min(_ROWS, max(ROWS, _NUMBERS // size))
    batch = first_run(trial.called, trial.batch(forms, spread=rows), rows)[0]
    if len(batch[0]) < min(ROWS, len(trial.probe)):
        return  # an archive that takes so few at a time
    tape = Tape(copies := copied(batch))
    execute(trial.called, copies, tape)
    ratio = norm_ratio(trial.called, tape)
    least, most = _SPREAD
    if ratio is None or (least <= ratio.factor <= most and ratio.distance <= _MEAN):
        return
    yield (
        f"value_range: the model was given {_range(batch[0])}, and its first batch norm sees "
        f"values {ratio.factor:.3g} times as spread as in training, their mean "
        f"{ratio.distance:.2g} deviations off; expected about 1 and 0. Are the inputs scaled and "
        "normalised as in training? If not, set transform.scale, transform.mean and transform.std; "
        "if so, the probe's samples are unlike those of the training."
    )


def _range(values: torch.Tensor) -> str:
    least, largest = values.aminmax()
    return f"values from {least.item():.4g} to {largest.item():.4g}"
