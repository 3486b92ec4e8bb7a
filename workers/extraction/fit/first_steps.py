"""What a model does to the values of an input before its first layer: it tells what they mean."""

from dataclasses import dataclass

import torch
from torch import Tensor

from workers.extraction.trace.operations import Step
from workers.extraction.trace.tape import Tape

_SAME_VALUES = frozenset(
    f"aten::{name}"
    for name in (
        "alias", "clone", "constant_pad_nd", "contiguous", "detach", "dropout", "flatten",
        "flip", "movedim", "pad", "permute", "reshape", "roll", "select", "slice", "squeeze",
        "transpose",
        "unflatten", "unsqueeze", "view", "_unsafe_view", "expand", "_to_copy", "to", "type_as",
        "upsample_bilinear2d", "upsample_nearest2d",
    )
)  # fmt: skip
"""Operations that leave the values as they are, or on their scale."""

_LOOKUPS = frozenset(("aten::embedding", "aten::embedding_bag", "aten::one_hot"))


_CHANNELS = 64
"""More values than that are an image's mean, say, which is no constant of the scale alone."""

_FRACTIONS = ((0.95, 1.05), (1.9, 2.1))
"""What the largest byte becomes where a model divides bytes by 255 or 256, by 127.5 or 128."""

_MEANS = (0.02, 0.98)
"""Means of pixels from 0 to 1 that are subtracted. Less is what keeps a logarithm finite."""

_KEPT = 0.5
"""Values from 0 to 1 are not divided by more than 2."""


@dataclass(frozen=True, slots=True)
class FirstSteps:
    """The affine function a·x + c that a model applies to an input first.

    Attributes:
        factor: a, the median where it differs between channels.
        offset: c, likewise.
        names: The operations it consists of; empty where the input goes straight into a layer.
        are_codes: The values are used as whole numbers that stand for something, as tokens are.
    """

    factor: float
    offset: float
    names: tuple[str, ...]
    are_codes: bool = False

    def takes_bytes(self, largest: float) -> bool | None:
        """Return whether a model takes whole numbers as they are, not divided by their largest.

        Subtracting less than 1 from bytes, or more than 1 from values up to 1, is of no use.
        Dividing alone brings bytes to values up to 1 or 2; any other factor may be a gain, and what
        is added may be there for a logarithm or a root.

        Args:
            largest: The largest value there can be: 255 for bytes.

        Returns:
            None if these steps do not tell.
        """
        if self.are_codes:
            return True
        if not self.names or not self.factor:
            return None
        if not self.offset:
            range_ = abs(self.factor) * largest
            return True if any(least <= range_ <= most for least, most in _FRACTIONS) else None
        mean = -self.offset / self.factor
        if 1 < mean <= largest:
            return True
        least, most = _MEANS
        return False if least <= mean <= most and abs(self.factor) >= _KEPT else None


_NOTHING = FirstSteps(1.0, 0.0, ())


def first_steps(tape: Tape, given: Tensor) -> FirstSteps:
    """Read what a recorded run did to an input up to its first operation that is not affine.

    Args:
        tape: The run.
        given: The very tensor that the model was given.

    Returns:
        Steps without names where there are none, or where the input is used otherwise as well.
    """
    scale, shift = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    names: list[str] = []
    current, earlier = [given], list[Tensor]()
    used: set[int] = set()
    are_codes = False
    for step in tape.steps:
        if not _takes(step, current):
            continue
        if step.name in _LOOKUPS or _casts_to_whole(step):
            are_codes = True
            break
        if step.name in _SAME_VALUES:
            used.add(step.index)
            current += step.outputs
            continue
        found = _affine(step, current)
        if found is None:
            break
        by, plus = found
        try:
            scale, shift = scale * by, shift * by + plus
        except RuntimeError:
            return _NOTHING  # constants along different axes
        used.add(step.index)
        names.append(step.name)
        outputs = [*step.outputs]
        # What a step overwrites is its result from then on.
        earlier += [tensor for tensor in current if not any(tensor is o for o in outputs)]
        current = outputs
    if any(step.index not in used and _takes(step, earlier) for step in tape.steps):
        return _NOTHING
    return FirstSteps(_typical(scale), _typical(shift), tuple(names), are_codes)


def _takes(step: Step, tensors: list[Tensor]) -> bool:
    return any(tensor is one for tensor in step.tensors() for one in tensors)


def _casts_to_whole(step: Step) -> bool:
    return step.name in _SAME_VALUES and not all(map(_is_numeric, step.outputs))


def _is_numeric(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.dtype is torch.uint8


def _typical(values: Tensor) -> float:
    return float(values.median())


def _affine(step: Step, current: list[Tensor]) -> tuple[Tensor, Tensor] | None:
    """Return the factor and the term of a step x → a·x + c; `None` if it is none."""
    kind = step.name.removeprefix("aten::").removesuffix("_")
    operands = [step.argument("self"), step.argument("other")]
    leads = any(operands[0] is one for one in current)
    others = [operand for operand in operands if not any(operand is one for one in current)]
    if len(others) != 1 or (value := _constant(others[0])) is None:
        return None
    alpha = step.argument("alpha")
    weight = float(alpha) if isinstance(alpha, int | float) else 1.0
    one, zero = torch.ones_like(value), torch.zeros_like(value)
    found: tuple[Tensor, Tensor] | None = None
    if kind in {"mul", "multiply"}:
        found = value, zero
    elif kind in {"div", "divide", "true_divide"} and leads and not step.argument("rounding_mode"):
        found = 1 / value, zero
    elif kind == "add":
        found = (one, value * weight) if leads else (one * weight, value)
    elif kind in {"sub", "subtract"}:
        found = (one, value * -weight) if leads else (one * -weight, value)
    elif kind == "rsub":
        found = one * -weight, value
    return found


def _constant(operand: object) -> Tensor | None:
    """Return a number, or a tensor of a few: one for each channel."""
    if isinstance(operand, bool) or not isinstance(operand, int | float | Tensor):
        return None
    values = torch.as_tensor(operand).detach().double().flatten().cpu()
    return values if 0 < values.numel() <= _CHANNELS else None
