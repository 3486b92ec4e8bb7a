"""Inner products of features, outputs and targets: what every figure is computed from."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

# Centring subtracts up to ‖mean‖² from second moments. Float32 features of that size resolve
# squares down to about (eps₃₂·‖mean‖)², and the rounding of the float64 sums lies below that (the
# factor 4 leaves room for sums over many batches). Centred eigenvalues under this floor are
# rounding, not signal.
CENTRING_NOISE = (4 * float(np.finfo(np.float32).eps)) ** 2
# A norm between these bounds was computed without over- or underflow of the squares.
_SQUARABLE = (1e-140, 1e140)


class Size(NamedTuple):
    """Trace of a Gram matrix, and its Frobenius norm as a share of the trace, both `(...,)`.

    Squares of such ratios neither over- nor underflow, whatever the scale of the functions.
    """

    trace: Tensor
    relative_norm: Tensor


def size_of(gram: Tensor) -> Size:
    """Compute the size of a Gram matrix `(..., c, c)`."""
    trace = gram.diagonal(dim1=-2, dim2=-1).sum(-1)
    norm = torch.linalg.vector_norm(gram, dim=(-2, -1))
    if bool(((norm > _SQUARABLE[0]) & (norm < _SQUARABLE[1])).all()):
        return Size(trace, norm / trace)
    return Size(trace, torch.linalg.vector_norm(gram / trace[..., None, None], dim=(-2, -1)))


@dataclass(frozen=True, eq=False)
class Averages:
    """Inner products `⟨u|v⟩ = Σ_i w_i u(x_i) v(x_i) / Σ_i w_i` of features, outputs and targets.

    They belong to one set of samples, or to several at once: every tensor then has one more axis at
    the front, written `...` below. All tensors but `classes` are float64. There are `p` features,
    `c` outputs and `d` targets (0 without targets). If the targets are class indicators, only
    classes that occur in some set have one.

    Attributes:
        n: Number of samples, `(...,)`.
        effective_n: Effective sample size `(Σw)² / Σw²`: as many samples of equal weight would have
            the same sampling error (Kish 1965); n where no sample was weighted.
        is_centered: Whether the means over samples have been removed.
        phi, f, y: Means `(..., p)`, `(..., c)`, `(..., d)`; zeros when centred.
        phi_phi, f_f: Gram matrices `(..., p, p)` and `(..., c, c)`.
        y_y: Gram matrix `(..., d, d)` of target values; None for class indicators, where `shares`
            determine it.
        phi_f, phi_y: Cross products `(..., p, c)` and `(..., p, d)`.
        shares: Each class's share of the weight, `(..., d)`, centred or not; for target values,
            their means.
        classes: Class that each target indicates, `(d,)` int64; None for target values.
        phi_noise, f_noise, y_noise: Eigenvalues of the Gram matrices at or below these are
            rounding, `(...,)`.
    """

    n: Tensor
    effective_n: Tensor
    is_centered: bool
    phi: Tensor
    f: Tensor
    y: Tensor
    phi_phi: Tensor
    f_f: Tensor
    y_y: Tensor | None
    phi_f: Tensor
    phi_y: Tensor
    shares: Tensor
    classes: Tensor | None
    phi_noise: Tensor
    f_noise: Tensor
    y_noise: Tensor

    @cached_property
    def phi_size(self) -> Size:
        """Size of the features' Gram matrix, cached because several figures need it."""
        return size_of(self.phi_phi)

    def centered(self, *, reuse: bool = False) -> Self:
        """Return the inner products after removing the mean over samples from Φ, F and Y.

        Args:
            reuse: Whether to overwrite `phi_phi` in place, which saves its memory and loses its
                values.
        """
        phi, f, y = self.phi, self.f, self.y
        return replace(
            self,
            is_centered=True,
            phi=torch.zeros_like(phi),
            f=torch.zeros_like(f),
            y=torch.zeros_like(y),
            phi_phi=self.phi_phi.addr_(phi, phi, alpha=-1)
            if reuse
            else _less(self.phi_phi, phi, phi),
            f_f=_less(self.f_f, f, f),
            y_y=None if self.y_y is None else _less(self.y_y, y, y),
            phi_f=_less(self.phi_f, phi, f),
            phi_y=_less(self.phi_y, phi, y),
            phi_noise=CENTRING_NOISE * phi.square().sum(-1),
            f_noise=CENTRING_NOISE * f.square().sum(-1),
            y_noise=CENTRING_NOISE * y.square().sum(-1),
        )


def stacked(sets: Sequence[Averages]) -> Averages:
    """Stack several sets of samples, whose targets are of the same classes."""
    joined: dict[str, Any] = {}
    for name in (each.name for each in fields(Averages)):
        first = getattr(sets[0], name)
        joined[name] = (
            torch.stack([getattr(each, name) for each in sets])
            if isinstance(first, Tensor) and name != "classes"
            else first
        )
    return Averages(**joined)


def _less(products: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """Remove the means of both sides from inner products."""
    if products.ndim == 2:  # noqa: PLR2004 - a single matrix: no copy but the result
        return torch.addr(products, one, other, alpha=-1)
    return torch.baddbmm(products, one[..., :, None], other[..., None, :], alpha=-1)
