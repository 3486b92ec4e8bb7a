"""Fewer samples than features or outputs: coordinates in the space that the samples span.

Every figure depends on features through inner products alone, of samples with one another and of
samples with eigenvectors. An orthonormal basis of the span of the n samples keeps all of them, so
the features may be replaced by their n coordinates: the dual problem, of size n instead of p. So
may the outputs.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def reduce_rows(parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Coordinates of samples in an orthonormal basis of what they span: Φ = Z Bᵀ, or F likewise.

    By Householder QR of Φᵀ, which leaves in each sample's coordinates an error of about
    eps₆₄ ‖Φ(x)‖ whatever the other samples are, and an orthonormal basis even if samples repeat or
    depend on one another.

    Args:
        parts: Features or outputs `(rows, p)` of disjoint sets of samples, n ≤ p rows in all, any
            real dtype.

    Returns:
        Z `(n, n)`, the rows in the same order, and B `(p, n)`, both float64, where the rows are.
    """
    # Filled in place: with the workspace of the factorization this is what memory ends at.
    first = parts[0]
    rows = torch.empty(
        sum(map(len, parts)), first.shape[1], dtype=torch.float64, device=first.device
    )
    taken = 0
    for part in parts:
        rows[taken : taken + len(part)] = part
        taken += len(part)
    factors, scales = torch.geqrf(rows.T)
    del rows
    coordinates = factors[: factors.shape[1]].triu().T.contiguous()
    return coordinates, torch.linalg.householder_product(factors, scales)
