"""Noticing inputs on another scale than the model was trained on: it would run, and judge nonsense.

A batch norm remembers how much its inputs varied in training. A model without one remembers
nothing, and only inputs that look like unscaled bytes are asked about.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from workers.extraction.trace.execution import Batch
from workers.extraction.trace.operations import Step, tensors_in
from workers.extraction.trace.tape import Tape, storage_key

_NORMS = (
    "aten::batch_norm",
    "aten::native_batch_norm",
    "aten::_native_batch_norm_legit",
    "aten::_native_batch_norm_legit_no_training",
)

_IMAGE_AXES = 4
_IMAGES = (-1.3, 1.3)
_OTHERS = (-5.0, 3.0)
"""Where log(variance seen / running variance) is as in training, for images and for other inputs.

Tried on 132 networks trained on digits, MNIST and CIFAR-10, 90 of them with batch norms, with 16
samples drawn at random and with 16 of one class, as a probe that is sorted by class begins:

| inputs                      | images          | others, random  | others, one class |
| --------------------------- | --------------- | --------------- | ----------------- |
| as in training              | −0.50 … 0.28    | −0.26 … 0.05    | −2.51 … −0.27     |
| × 255                       | 10.4 … 11.4     | 10.6 … 11.2     | 7.9 … 10.7        |
| ÷ 255                       | −11.6 … −10.8   | −11.7 … −10.4   | −13.3 … −11.3     |
| normalised only in training | −2.9 … −1.5     | −2.6 … −1.6     | −4.5 … −2.3       |
| normalised only here        | 1.5 … 2.8       | 1.3 … 2.6       | −0.3 … 2.0        |

None of 2,112 batches scaled as in training was warned of, and every one × 255 or ÷ 255 was, unless
freezing had folded the batch norm away. Missing normalisation shows in images alone, where the many
pixels make up for the few samples.
"""

_FEWEST_ROWS = 8
"""Variances of fewer samples tell little."""

_SETTLED = 10.0
"""Updates × momentum after which running statistics have forgotten their initial 0 and 1: what is
left of those is e⁻¹⁰. Checkpoints of the first steps of a training run are like that."""

_NORMAL_KURTOSIS = 3.0
_CHANNELS_NEAR = 0.9
_SAME_SPREAD = (0.75, 1.33)
_SAME_MEAN = 0.4
"""Between these, and this near, training data of its own is seen by a network, in samples that are
drawn evenly from all of a probe; a probe of some classes alone may be further off."""

_DEAD = 1e-6
"""Channels whose running variance is such a part of the largest one never said anything."""

_BYTE = 255
_HALF = 128
_CHANNELS = (1, 3, 4)
_TABLE_AXES = 2
_FEWEST_COLUMNS = 64
_BYTE_FACTORS = (64.0, 1024.0)
"""A factor between these is taken for 255: normalising with mean and standard deviation comes on
top of it, or is left out, and is worth a factor of 2 to 4."""

_VIEWS = frozenset(
    f"aten::{name}"
    for name in (
        "alias", "clone", "constant_pad_nd", "contiguous", "detach", "dropout", "flatten",
        "movedim", "pad", "permute", "reshape", "select", "size", "slice", "squeeze", "transpose",
        "unflatten", "unsqueeze", "view",
    )
)  # fmt: skip
"""Operations that leave the values as they are."""

_WEIGHTED = frozenset(
    f"aten::{name}"
    for name in (
        "_convolution", "addmm", "conv1d", "conv2d", "conv3d", "convolution", "gru", "linear",
        "lstm", "matmul", "mm", "rnn_relu", "rnn_tanh",
    )
)  # fmt: skip
"""Operations that weigh the values; a model that begins with one does not scale them itself."""


def check_value_range(model: nn.Module, tape: Tape, batch: Batch) -> tuple[str, ...]:
    """Compare the values a model was given with those it was trained on, as far as it tells.

    Args:
        model: The model; the counts of its batch norms' updates are read.
        tape: The recorded run on the first samples of the batch.
        batch: The first batch, after the probe's transform.

    Returns:
        At most one warning, `value_range: …`. Never a refusal: the model may be right.
    """
    if _first_norm(tape) is None:
        return _looks_like_bytes(tape, batch)
    ratio = norm_ratio(model, tape)
    if ratio is None or ratio.is_usual:
        return ()
    return (_other_scale(ratio.factor, batch),)


@dataclass(frozen=True, slots=True)
class NormRatio:
    """How the values that a model's first batch norm sees compare with those in training.

    Attributes:
        factor: How many times as spread they are.
        distance: How far their mean is from that in training, in standard deviations of training.
        is_usual: Whether they are as spread as in training, as far as a few samples tell.
        doubt: Of the factor's logarithm, where columns have long tails; 0 for images, whose pixels
            are many.
    """

    factor: float
    distance: float
    is_usual: bool
    doubt: float

    @property
    def is_same(self) -> bool:
        """Whether spread and mean are so close that the inputs are scaled as in training.

        Normalising moves both: by 2 to 5 times the spread, as a rule, or by the mean alone.
        """
        least, most = _SAME_SPREAD
        return least <= self.factor <= most and self.distance <= _SAME_MEAN


def norm_ratio(model: nn.Module, tape: Tape) -> NormRatio | None:
    """Compare what the first batch norm was given with what it remembers.

    Args:
        model: The model; the counts of its batch norms' updates are read.
        tape: A recorded run on a few samples.

    Returns:
        None if the model has no batch norm, or one that remembers nothing.
    """
    norm = _first_norm(tape)
    if norm is None or not _settled(norm, model):
        return None
    if _overwritten(norm.source, tape.steps[norm.index + 1 :]):
        return None
    ratio = _variance_ratio(norm)
    lowest, highest = _IMAGES if norm.source.dim() == _IMAGE_AXES else _OTHERS
    is_usual = lowest <= ratio <= highest
    return NormRatio(math.exp(ratio / 2), _mean_distance(norm), is_usual, _doubt(norm.source))


def _doubt(source: Tensor) -> float:
    """Return how much less sure the standard deviation's logarithm is than that of normal samples.

    Its error is ½ √((κ − 1)/n), with the kurtosis κ of n samples; what κ is above 3, that of normal
    ones, is counted.
    """
    if source.dim() == _IMAGE_AXES or len(source) < _FEWEST_ROWS:
        return 0.0
    others = [axis for axis in range(source.dim()) if axis != 1]
    centered = source.double() - source.double().mean(dim=others, keepdim=True)
    variance = centered.square().mean(dim=others)
    kurtosis = centered.pow(4).mean(dim=others) / variance.square()
    found = (kurtosis[variance > 0] - _NORMAL_KURTOSIS).clamp(min=0) / len(source)
    return 0.5 * math.sqrt(float(found.median())) if found.numel() else 0.0


def _mean_distance(norm: "_Norm") -> float:
    """Return how far the mean seen is from the running one, in nine of ten channels at most."""
    running = norm.variance.double()
    alive = running > _DEAD * running.max()
    source = norm.source.to(torch.promote_types(norm.source.dtype, torch.float32))
    others = [axis for axis in range(source.dim()) if axis != 1]
    distance = (source.mean(dim=others).double() - norm.mean.double()).abs()
    return float((distance[alive] / running[alive].sqrt()).quantile(_CHANNELS_NEAR))


def _first_norm(tape: Tape) -> "_Norm | None":
    return next(filter(None, (_as_norm(step, tape) for step in tape.steps)), None)


@dataclass(frozen=True, slots=True)
class _Norm:
    """A batch norm in the recorded run.

    Attributes:
        index: Its position in the run.
        source: What it was given.
        mean: Its running mean.
        variance: Its running variance.
        momentum: The share of the running statistics that each update renewed.
    """

    index: int
    source: Tensor
    mean: Tensor
    variance: Tensor
    momentum: float


def _as_norm(step: Step, tape: Tape) -> _Norm | None:
    if step.name not in _NORMS:
        return None
    names = ("input", "running_mean", "running_var")
    source, mean, variance = (step.argument(name) for name in names)
    momentum = step.argument("momentum")
    if (
        isinstance(source, Tensor)
        and isinstance(mean, Tensor)
        and isinstance(variance, Tensor)
        and isinstance(momentum, float)
        and tape.depends(source)
    ):
        return _Norm(step.index, source, mean, variance, momentum)
    return None


def _settled(norm: _Norm, model: nn.Module) -> bool:
    """Return whether the running statistics are the data's; a frozen archive's are taken to be."""
    if not norm.mean.any() and bool((norm.variance == 1).all()):
        return False
    buffers = dict(model.named_buffers())
    key = storage_key(norm.variance)
    siblings = (
        buffers.get(name.removesuffix("running_var") + "num_batches_tracked")
        for name, buffer in buffers.items()
        if storage_key(buffer) == key
    )
    return all(
        float(count.double().sum()) * norm.momentum >= _SETTLED
        for count in siblings
        if count is not None
    )


def _variance_ratio(norm: _Norm) -> float:
    """Return log(variance seen / running variance); 0, as expected, if it is not known.

    It is taken in two ways, in the median channel and over all of them, and the one nearer to 0
    counts: sparse features make the first small, a few outliers the second large.
    """
    running = norm.variance.double()
    alive = running > _DEAD * running.max()
    # Half precision could not hold the variance of unscaled bytes.
    source = norm.source.to(torch.promote_types(norm.source.dtype, torch.float32))
    others = [axis for axis in range(source.dim()) if axis != 1]
    seen = source.var(dim=others, correction=0).double()[alive]
    if len(norm.source) < _FEWEST_ROWS or not seen.any() or not torch.isfinite(seen).all():
        return 0.0
    typical = (seen / running[alive]).median().log().item()
    total = (seen.sum() / running[alive].sum()).log().item()
    return min(typical, total, key=abs) if typical * total > 0 else 0.0


def _overwritten(tensor: Tensor, later: Sequence[Step]) -> bool:
    """Return whether a later step wrote into a recorded tensor, which then is not what was seen."""
    written = (
        t
        for step in later
        for t in tensors_in(tuple(step.argument(name) for name in step.operation.writes))
    )
    return any(storage_key(t) == storage_key(tensor) for t in written)


def _other_scale(factor: float, batch: Batch) -> str:
    fewest, most = _BYTE_FACTORS
    if fewest <= factor <= most:
        advice = f"divide them by {_BYTE} (transform.scale), and normalise them as in training"
    elif fewest <= 1 / factor <= most:
        advice = f"multiply them by {_BYTE} (transform.scale)"
    else:
        advice = "normalise them as in training (transform.scale, transform.mean, transform.std)"
    return (
        f"value_range: the model was given {_range(batch)}, and its first batch norm sees values "
        f"{factor:.3g} times as spread as in training; expected about 1. Are the inputs scaled as "
        f"they were? If not, {advice}."
    )


def _looks_like_bytes(tape: Tape, batch: Batch) -> tuple[str, ...]:
    first = next((step for step in tape.steps if _uses_values(step, tape)), None)
    if first is None or first.name not in _WEIGHTED:
        return ()
    if not (len(batch) == 1 and batch[0].is_floating_point() and _are_bytes(batch[0])):
        return ()
    warning = (
        f"value_range: the model was given {_range(batch)}, like bytes that were not scaled, and "
        "does not scale them itself. Was it trained on such values? If not, expected is 0 to 1, "
        f'say: divide by {_BYTE} (transform.scale "1/255"), and normalise as in training.'
    )
    return (warning,)


def _uses_values(step: Step, tape: Tape) -> bool:
    return step.name not in _VIEWS and any(tape.depends(t) for t in step.tensors())


def _are_bytes(inputs: Tensor) -> bool:
    """Return whether inputs look like unscaled images.

    Whole numbers alone are no sign: counts, grey levels from 0 to 16 and indicators are whole, too.
    Bytes of images reach into the upper half of their range. In a table that only says
    something if there are many columns and most of them do. Images that were resized are not whole.
    """
    least, largest = inputs.aminmax()
    if least < 0 or not _HALF <= largest <= _BYTE:
        return False
    if inputs.dim() == _IMAGE_AXES and inputs.shape[1] in _CHANNELS:
        return True
    if not inputs.equal(inputs.round()):
        return False
    if inputs.dim() > _TABLE_AXES:
        return True
    highest = inputs.amax(dim=0)
    varying = highest[highest > inputs.amin(dim=0)]
    return inputs.shape[1] >= _FEWEST_COLUMNS and 2 * int((varying >= _HALF).sum()) >= len(varying)


def _range(batch: Batch) -> str:
    least, largest = batch[0].aminmax()
    return f"values from {least.item():.4g} to {largest.item():.4g}"
