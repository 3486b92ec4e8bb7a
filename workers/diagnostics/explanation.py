"""How well outputs follow from features where the linear layer between them is not known."""

import math

from workers.diagnostics.diagonalization import diagonalize
from workers.diagnostics.moments import Moments


def unexplained(moments: Moments) -> float | None:
    """Compute the relative residual that the best linear layer from features to outputs leaves.

    This is min over W, b of ‖ΦWᵀ+b−F‖ / ‖F−F̄‖. By least squares on the centred eigenfunctions of
    the features, its square is 1 − Σ_k ‖⟨e_k|F⟩‖² / ‖F‖² with centred F.

    Args:
        moments: Sums over the samples, with targets or without.

    Returns:
        A number in [0, 1]; `None` where samples are too few to tell (n ≤ p + 1, when a linear
        layer fits anything) or where the outputs are constant.

    Example:
        >>> import torch
        >>> x = torch.randn(50, 3, dtype=torch.float64)
        >>> moments = Moments.zeros(p=3, c=1)
        >>> moments.update(x, x.sum(1, keepdim=True) + 2.0)
        >>> round(unexplained(moments), 6)
        0.0
    """
    if moments.n <= moments.p + 1:
        return None
    centered = moments.centered_averages()
    total = float(centered.f_f.trace())
    if total <= centered.f_noise:
        return None
    pairs = diagonalize(centered.phi_phi, rows=moments.n, noise=centered.phi_noise)
    along = pairs.eigenvectors.T @ centered.phi_f
    explained = float((along.square().sum(1) / pairs.eigenvalues).sum())
    return math.sqrt(max(0.0, 1.0 - explained / total))
