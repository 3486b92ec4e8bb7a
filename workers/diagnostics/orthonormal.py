"""Orthonormal bases of the span of functions, from their inner products."""

from typing import NamedTuple

import torch
from torch import Tensor

from workers.diagnostics.linear_algebra import eigh


class Basis(NamedTuple):
    """Orthonormal basis of the span of c functions, on one set of samples or several.

    Attributes:
        coefficients: `(..., c, most)`; column i holds the coefficients of a basis function, or
            zeros in sets of samples that have fewer of them than others.
        dimension: Number of basis functions, `(...,)`, float64 like all figures.
    """

    coefficients: Tensor
    dimension: Tensor


def orthonormal(gram: Tensor, *, tolerance: float, noise: Tensor | float = 0.0) -> Basis:
    """Compute combinations of functions that form an orthonormal basis of their span.

    A Gram matrix has the squared condition number of its functions: a direction whose singular
    value is the share `s` of the first carries an error of about `eps₆₄/s²`, at most 2e-4 at a
    tolerance of 1e-6 and 2e-10 at 1e-3. Float32 outputs are themselves uncertain by `eps₃₂/s`,
    which is larger.

    Args:
        gram: Inner products of `c` functions, `(..., c, c)`.
        tolerance: Directions with a singular value of at most this share of the first are left out.
        noise: Directions with an eigenvalue at or below this are left out, `(...,)`.
    """
    if not gram.shape[-1]:
        return Basis(gram, gram.new_zeros(gram.shape[:-2]))
    eigenvalues, vectors = eigh(gram)
    floor = torch.as_tensor(noise, dtype=gram.dtype, device=gram.device).clamp(min=0.0)
    kept = eigenvalues > (tolerance**2 * eigenvalues[..., -1]).maximum(floor)[..., None]
    used = kept.reshape(-1, kept.shape[-1]).any(0)
    scale = torch.where(kept, eigenvalues, torch.inf).rsqrt()[..., used]
    return Basis(vectors[..., used] * scale[..., None, :], kept.sum(-1).double())
