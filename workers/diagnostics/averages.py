"""Inner products of features, outputs and targets: what every figure is computed from."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

# Centring subtracts ‖mean‖² from every second moment. What float32 features of that size can still
# tell apart is about (eps₃₂·‖mean‖)², and the rounding of the float64 sums lies below it (the
# factor 4 leaves room for sums over many batches). Centred eigenvalues under this floor are
# rounding, not signal.
CENTRING_NOISE = (4 * float(np.finfo(np.float32).eps)) ** 2
# Norms in between were found without over- or underflow of the squares.
_SQUARABLE = (1e-140, 1e140)


class Size(NamedTuple):
    """Of a Gram matrix the trace, and its Frobenius norm as a share of the trace, `(...,)`.

    Squares of ratios neither over- nor underflow, whatever the scale of the functions is.
    """

    trace: Tensor
    relative_norm: Tensor


def size_of(gram: Tensor) -> Size:
    """The size of a Gram matrix `(..., c, c)`."""
    trace = gram.diagonal(dim1=-2, dim2=-1).sum(-1)
    norm = torch.linalg.vector_norm(gram, dim=(-2, -1))
    if bool(((norm > _SQUARABLE[0]) & (norm < _SQUARABLE[1])).all()):
        return Size(trace, norm / trace)
    return Size(trace, torch.linalg.vector_norm(gram / trace[..., None, None], dim=(-2, -1)))


@dataclass(frozen=True, eq=False)
class Averages:
    """Inner products `⟨u|v⟩ = Σ_i w_i u(x_i) v(x_i) / Σ_i w_i` of features, outputs and targets.

    Of one set of samples, or of several at once: then every tensor has an axis more at the front,
    written `...` below. All tensors are float64. `p` features, `c` outputs, `d` targets (0 where
    there are none). Of class indicators there are only those of classes that occur in some set.

    Attributes:
        n: Number of samples, `(...,)`.
        effective_n: `(Σw)² / Σw²`: as many samples of equal weight would leave as much to chance
            (Kish 1965); n where no sample was weighted.
        is_centered: Whether the means over samples have been removed.
        phi, f, y: Means `(..., p)`, `(..., c)`, `(..., d)`; zeros when centred.
        phi_phi, f_f: Gram matrices `(..., p, p)` and `(..., c, c)`.
        y_y: Gram matrix `(..., d, d)` of values; None of class indicators, whose `shares` tell it.
        phi_f, phi_y: Cross products `(..., p, c)` and `(..., p, d)`.
        shares: Share of the weight that each class has, `(..., d)`, centred or not; of values,
            their means.
        classes: Which class each target is the indicator of, `(d,)` int64; None of values.
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
        """The size of the features' Gram matrix, which several figures need."""
        return size_of(self.phi_phi)

    def centered(self, *, reuse: bool = False) -> Self:
        """The same after the mean over samples has been removed from Φ, F and Y.

        Args:
            reuse: Take the memory of `phi_phi`, which is lost here.
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
    """Several sets of samples as one, with targets of the same classes."""
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
    """Inner products once the means are removed from both sides."""
    if products.ndim == 2:  # noqa: PLR2004 - a single matrix: no copy but the result
        return torch.addr(products, one, other, alpha=-1)
    return torch.baddbmm(products, one[..., :, None], other[..., None, :], alpha=-1)
