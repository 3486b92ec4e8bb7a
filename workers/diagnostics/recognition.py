"""The form of f = link(u), recognized by evaluating the link on outputs across their range."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Form = Literal[
    "logits",
    "probabilities",
    "log-probabilities",
    "decisions",
    "signed scores",
    "scores",
    "values",
    "unknown",
]

# Outputs that the link is evaluated on. They are cubed so that most are small, where links are
# curved. A few are far out, where models may clip logits.
_NEAR = torch.linspace(-1, 1, 65, dtype=torch.float64) ** 3 * 40
_FAR = torch.linspace(-1000, 1000, 9, dtype=torch.float64)
# Scores that reach this far both ways can make any class certain to 5e-5, as logits must.
_SERVES_AS_LOGITS = 10.0
# Most that floors under the probabilities of all classes may add to their sum.
_FLOORS = 0.01
_ROUNDING = 8  # in units of the dtype's epsilon


@dataclass(frozen=True)
class Recognised:
    """Form of f, as its values show it.

    Attributes:
        form: What the values of f are, per output or over all outputs together.
        exclusive: Whether the outputs, or their exponentials, sum to one.
        sign: 1 or −1 where f is a softmax or sigmoid of u or −u, or u itself; 0: none of these.
        is_coupled: Whether f is probabilities that do not sum to one, or their logarithms, and one
            output of u affects several of them, as in a softmax.
        smallest: The smallest number that f's dtype holds in full precision.
    """

    form: Form
    exclusive: bool
    sign: int
    is_coupled: bool
    smallest: float


def recognise(link: Callable[[Tensor], Tensor], outputs: int, dtype: torch.dtype) -> Recognised:
    """Find out the form of f by evaluating the link on outputs across their range.

    Args:
        link: Maps rows of u to f, `(rows, C)`.
        outputs: Number of outputs, C.
        dtype: Data type of u, in which the link computes.
    """
    tried = _outputs_to_try(outputs).to(dtype)
    found = link(tried)
    precision = found.dtype if found.is_floating_point() else dtype
    close = _Closeness(precision)
    u, f = tried.double(), found.double()
    picks = f.shape[1] < outputs
    form, exclusive, sign = _recognise_part(f) if picks else _recognise(u, f, close)
    may_be_coupled = form in ("probabilities", "log-probabilities") and not (exclusive or sign)
    is_coupled = may_be_coupled and _is_coupled(link, tried, f, close)
    return Recognised(form, exclusive, sign, is_coupled, torch.finfo(precision).tiny)


def _is_coupled(
    link: Callable[[Tensor], Tensor], tried: Tensor, f: Tensor, close: "_Closeness"
) -> bool:
    """Return whether changing the first output changes more than one column of f."""
    other = tried.clone()
    other[:, 0] = tried[:, 0].flip(0)
    changed = ~close.each(link(other).double(), f).all(0)
    return int(changed.sum()) > 1


@dataclass(frozen=True)
class _Closeness:
    """Equality of values up to the rounding of a dtype."""

    dtype: torch.dtype

    def __call__(self, found: Tensor, expected: Tensor) -> bool:
        rounding = _ROUNDING * torch.finfo(self.dtype).eps
        return torch.allclose(found, expected, rtol=rounding, atol=rounding)

    def each(self, found: Tensor, expected: Tensor) -> Tensor:
        """Compare each value by itself."""
        rounding = _ROUNDING * torch.finfo(self.dtype).eps
        return torch.isclose(found, expected, rtol=rounding, atol=rounding)

    def of_probabilities(self, found: Tensor, logarithms: Tensor) -> bool:
        """Compare probabilities, small ones included, with what their logarithms should be.

        Without the logarithms, a floor under the probabilities would go unnoticed, although it
        determines what mistakes cost.
        """
        if not self(found, logarithms.exp()):
            return False
        info = torch.finfo(self.dtype)
        there = logarithms > math.log(info.tiny) + 1
        rounding = _ROUNDING**2 * info.eps  # an exponential magnifies its argument's rounding
        return torch.allclose(found[there].log(), logarithms[there], rtol=rounding, atol=rounding)


def _outputs_to_try(outputs: int) -> Tensor:
    """Build rows in which each output takes each value, and neighbouring outputs differ."""
    blocks = []
    for values in (_NEAR, _FAR):
        # 23 has no factor in common with 65 or 9, so neighbouring outputs are far apart.
        turned = torch.arange(len(values))[:, None] + 23 * torch.arange(outputs)
        blocks.append(values[turned % len(values)])
    return torch.cat(blocks)


def _recognise(u: Tensor, f: Tensor, close: _Closeness) -> tuple[Form, bool, int]:
    """Return the form of f, whether outputs exclude each other, and the sign (0: not exact)."""
    if bool(f.isnan().any()):
        return "scores", False, 0
    if u.shape[1] > 1 and (over_classes := _recognise_classes(u, f, close)) is not None:
        return over_classes
    if close(f, u):
        return "logits", False, 1
    for sign in (1, -1):
        logarithms = functional.logsigmoid(sign * u)
        if close.of_probabilities(f, logarithms):
            return "probabilities", False, sign
        if close(f, logarithms):
            return "log-probabilities", False, sign
    return _recognise_scores(u, f, close), False, 0


def _recognise_classes(u: Tensor, f: Tensor, close: _Closeness) -> tuple[Form, bool, int] | None:
    """Return the result of `_recognise` if outputs or their exponentials sum to one; else None."""
    logarithms = torch.log_softmax(u, 1)
    if _sum_to_one(f):
        return "probabilities", True, int(close.of_probabilities(f, logarithms))
    if _sum_to_one(f.exp()):
        return "log-probabilities", True, int(close(f, logarithms))
    return None


def _recognise_part(f: Tensor) -> tuple[Form, bool, int]:
    """Return the same for an f with only some of the outputs, which may depend on the others."""
    if f.shape[1] > 1 and bool((f >= 0).all()) and bool((f.sum(1) <= 1 + _FLOORS).all()):
        return "probabilities", True, 0
    within = bool(((f >= 0) & (f <= 1)).all())
    if within and bool(((f < 0.5).any(0) & (f > 0.5).any(0)).all()):  # noqa: PLR2004 - half
        return "probabilities", False, 0
    return "scores", False, 0


def recognise_values(f: Tensor) -> tuple[Form, bool]:
    """Return the form of values whose link is not known, and whether outputs are exclusive."""
    if bool(((f == 0) | (f == 1)).all()):
        return "decisions", False
    if _sum_to_one(f):
        return "probabilities", True
    return ("log-probabilities", True) if _sum_to_one(f.exp()) else ("scores", False)


def _sum_to_one(p: Tensor) -> bool:
    """Return whether these are probabilities, with floors and ceilings allowed for."""
    return bool((p >= 0).all()) and bool(((p.sum(1) - 1).abs() < _FLOORS).all())


def _recognise_scores(u: Tensor, f: Tensor, close: _Closeness) -> Form:
    """Return the form of an f that acts on each output by itself and is no known function."""
    lowest, highest = f.amin(0), f.amax(0)
    if bool(((lowest >= 0) & (lowest < 0.5) & (highest > 0.5) & (highest <= 1)).all()):  # noqa: PLR2004 - half
        return "decisions" if bool(((f == 0) | (f == 1)).all()) else "probabilities"
    in_order = f.gather(0, u.argsort(0))
    steps = in_order.diff(dim=0)
    monotone = bool(((steps >= 0).all(0) | (steps <= 0).all(0)).all())
    far = bool(((lowest < -_SERVES_AS_LOGITS) & (highest > _SERVES_AS_LOGITS)).all())
    if monotone and far:
        return "logits"
    # Sorted u is symmetric about 0, so an odd function of it is its own negative in reverse.
    return "signed scores" if monotone and close(in_order, -in_order.flip(0)) else "scores"
