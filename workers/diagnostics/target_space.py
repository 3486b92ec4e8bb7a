"""The target space H*, from targets given as values or as classes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from workers.diagnostics.averages import Averages, Size
from workers.diagnostics.orthonormal import orthonormal

# dim H* counts singular values of the targets above this share of the first. Indicators of a class
# with one sample in a million still pass; linear dependence (all indicators sum to 1) does not.
TARGET_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class TargetSpace:
    """H*, represented by functions b_i in it with `Σ_i ⟨u|b_i⟩² = ‖P_{H*} u‖²` for every feature u.

    Attributes:
        cross: `⟨Φ_k|b_i⟩`, `(..., p, m)`.
        dimension: `dim H*`, `(...,)`.
        constant: `‖P_{H*} 1‖²`, `(...,)`: 1 for class indicators, 0 once centred.
    """

    cross: Tensor
    dimension: Tensor
    constant: Tensor


def target_space(averages: Averages) -> TargetSpace:
    """Build the target space from inner products, centred or not.

    Class indicators never overlap: divided by the square roots of their shares they are
    orthonormal. They sum to 1, so once centred they span one dimension fewer. The same functions,
    centred, still give the projection, since centred features have no component along the lost
    dimension.
    """
    if averages.y_y is not None:
        return _of_values(averages.y_y, averages)
    present = averages.shares > 0
    dimension = (present.sum(-1).double() - int(averages.is_centered)).clamp(min=0)
    # With a single class, centring leaves nothing but rounding.
    used = present & (dimension > 0)[..., None]
    scale = torch.where(used, averages.shares, torch.inf).rsqrt()
    constant = torch.full_like(averages.effective_n, 0.0 if averages.is_centered else 1.0)
    return TargetSpace(averages.phi_y * scale[..., None, :], dimension, constant)


def indicators_size(shares: Tensor) -> Size:
    """Compute the size of the Gram matrix of centred class indicators, `diag(s) − s sᵀ`.

    Args:
        shares: Share s of each class, `(..., k)`.
    """
    squares = shares.square()
    diagonal = shares * _of_others(shares)
    trace = diagonal.sum(-1)
    norm = (diagonal.square() + squares * _of_others(squares)).sum(-1).sqrt()
    return Size(trace, norm / trace)


def _of_values(gram: Tensor, averages: Averages) -> TargetSpace:
    basis = orthonormal(gram, tolerance=TARGET_TOLERANCE, noise=averages.y_noise)
    constant = (averages.y[..., None, :] @ basis.coefficients).square().sum((-2, -1))
    return TargetSpace(averages.phi_y @ basis.coefficients, basis.dimension, constant)


def _of_others(values: Tensor) -> Tensor:
    """Return for each of some nonnegative values the sum of all others, to full precision."""
    others = values.sum(-1, keepdim=True) - values
    # For a value that outweighs all others, the difference would cancel.
    largest = values.argmax(-1, keepdim=True)
    rest = values.scatter(-1, largest, 0.0).sum(-1, keepdim=True)
    return others.scatter(-1, largest, rest)
