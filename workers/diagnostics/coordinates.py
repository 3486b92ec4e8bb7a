"""Coordinates in the span of the samples, for fewer samples than features or outputs.

Every figure depends on the features only through inner products of samples with one another and
with eigenvectors. An orthonormal basis of the span of the n samples preserves these, so the
features may be replaced by their n coordinates: the dual problem, of size n instead of p. The same
holds for the outputs.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def reduce_rows(parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Compute coordinates of samples in an orthonormal basis of their span: Φ (or F) = Z Bᵀ.

    Householder QR of Φᵀ leaves an error of about eps₆₄ ‖Φ(x)‖ in each sample's coordinates,
    whatever the other samples are, and the basis is orthonormal even if samples repeat or are
    linearly dependent.

    Args:
        parts: Features or outputs `(rows, p)` of disjoint sets of samples, n ≤ p rows in all, any
            real dtype.

    Returns:
        Z `(n, n)`, rows in the order given, and B `(p, n)`; both float64, on the device of the
        rows.
    """
    # Filled in place: these rows and the workspace of the factorization are the peak of memory.
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
