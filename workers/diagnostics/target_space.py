"""The target space H*, in whatever way the targets are told: as values or as classes."""

from dataclasses import dataclass

from torch import Tensor

from workers.diagnostics.averages import Averages
from workers.diagnostics.orthonormal import orthonormal_coefficients

# dim H* counts singular values of the targets above this share of the first. Indicators of a class
# with one sample in a million still pass; linear dependence (all indicators sum to 1) does not.
TARGET_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class TargetSpace:
    """H*, told by functions b_i of it with `Σ_i ⟨u|b_i⟩² = ‖P_{H*} u‖²` for every feature u.

    Attributes:
        cross: `⟨Φ_k|b_i⟩`, `(p, m)`.
        dimension: `dim H*`.
        constant: `‖P_{H*} 1‖²`: 1 for class indicators, 0 once centred.
    """

    cross: Tensor
    dimension: int
    constant: float


def target_space(averages: Averages) -> TargetSpace:
    """The target space of inner products, centred or not.

    Indicators of classes never overlap: divided by the square roots of their shares they are
    orthonormal. They sum to 1, so without their means they span one dimension less; the same
    functions without their means project on it, since features without means have nothing along
    the dimension that is gone.
    """
    if averages.y_y is not None:
        return _of_values(averages.y_y, averages)
    centered = not bool(averages.y.any())
    dimension = max(len(averages.shares) - centered, 0)
    cross = averages.phi_y / averages.shares.sqrt()
    # Of one class nothing but rounding is left once its mean is removed.
    return TargetSpace(cross if dimension else cross[:, :0], dimension, 0.0 if centered else 1.0)


def indicators_gram_size(shares: Tensor) -> tuple[Tensor, Tensor]:
    """Trace and Frobenius norm of the Gram matrix of centred class indicators, `diag(s) − s sᵀ`.

    Args:
        shares: Share s of each class, `(k,)`.
    """
    squares = shares.square()
    diagonal = shares * _of_others(shares)
    return diagonal.sum(), (diagonal.square() + squares * _of_others(squares)).sum().sqrt()


def _of_values(gram: Tensor, averages: Averages) -> TargetSpace:
    basis = orthonormal_coefficients(gram, tolerance=TARGET_TOLERANCE, noise=averages.y_noise)
    return TargetSpace(
        averages.phi_y @ basis, basis.shape[1], float((basis.T @ averages.y).square().sum())
    )


def _of_others(values: Tensor) -> Tensor:
    """For each of some values that are not negative the sum of all others, to all digits."""
    others = values.sum() - values
    # Of one that outweighs all others the difference would be lost.
    largest = int(values.argmax())
    others[largest] = values[:largest].sum() + values[largest + 1 :].sum()
    return others
