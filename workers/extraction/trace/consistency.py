"""Proving on every batch that what was found is what the model does."""

import math

import torch
from torch import Tensor

# Largest residual accepted, by the precision the head works in. Seen on 129 models whose Φ was
# known: 4e-7 (float32), 2e-4 (float16), 2e-3 (bfloat16), 2e-2 (8-bit integers); float64 keeps the
# same distance.
_TOLERANCES = {
    torch.float64: 1e-10,
    torch.float32: 1e-4,
    torch.float16: 1e-2,
    torch.bfloat16: 3e-2,
    torch.qint8: 6e-2,
    torch.quint8: 6e-2,
}
_STEP_OF_8_BITS = 2.0**-8

_ROUNDING = 8
"""Rounding errors of u that are no sign of a wrong Φ, in units of the precision's epsilon."""


_ROWS = 64
_SHARE = 4
"""Rows of a batch whose u is computed again, evenly spread: 64, or a quarter as many as samples if
that is more. All of them would cost an MLP 5 % of its time, and a head that is not the one found
misses on every row."""


def supported(dtype: torch.dtype) -> bool:
    """Return whether heads in this precision can be checked."""
    return dtype in _TOLERANCES


def coarsest(*dtypes: torch.dtype) -> torch.dtype:
    """Return the least precise of some dtypes."""
    return max(dtypes, key=tolerance)


def tolerance(dtype: torch.dtype) -> float:
    """Return the residual up to which Φ is taken to reproduce u in this precision."""
    return _TOLERANCES[dtype]


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the precision to check in: half precisions are checked in float32."""
    return dtype if dtype is torch.float64 else torch.float32


def residual(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    logits: Tensor,
    *,
    center: Tensor,
    precision: torch.dtype,
    samples: int,
) -> float:
    """‖ΦWᵀ + b − u‖ / ‖u − ū‖, with Frobenius norms.

    The outputs are centred since a large bias would hide any error of the features. Where u hardly
    varies (a head of zeros, say) the denominator is held at what rounding of u alone explains.

    Args:
        features: Φ, `(n, p)`.
        weight: W, `(C, p)`, in the working precision.
        bias: b, `(C,)`, likewise, or `None`.
        logits: u, `(n, C)`.
        center: ū, `(C,)`, the mean of u over a reference batch, in the working precision.
        precision: The dtype the model worked in between Φ and u.
        samples: How many there are; n unless each has several rows.
    """
    every = max(1, len(logits) // max(_ROWS, samples // _SHARE))
    outputs = logits[::every].to(weight.dtype)
    chosen = features[::every].to(weight.dtype)
    predicted = chosen @ weight.T if bias is None else torch.addmm(bias, chosen, weight.T)
    error = float(torch.dist(predicted, outputs))
    spread = float(torch.dist(outputs, center))
    if error > tolerance(precision) * spread:
        step = torch.finfo(precision).eps if precision.is_floating_point else _STEP_OF_8_BITS
        epsilon = step / tolerance(precision)
        spread = max(spread, _ROUNDING * epsilon * float(torch.linalg.vector_norm(outputs)))
    return error / spread if spread else (0.0 if error == 0 else math.inf)


def same(found: Tensor, expected: Tensor, relative: float) -> bool:
    """Return whether tensors agree up to a relative Frobenius error; NaN agrees with nothing."""
    if found.shape != expected.shape:
        return False
    if torch.equal(found, expected):
        return True
    distance = torch.linalg.vector_norm(found.double() - expected.double())
    return bool(distance <= relative * torch.linalg.vector_norm(expected.double()))


def finite(tensor: Tensor) -> bool:
    """Return whether all values are finite: one sum finds NaN and infinity and seldom overflows."""
    return math.isfinite(float(tensor.sum())) or bool(torch.isfinite(tensor).all())
