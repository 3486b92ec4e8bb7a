"""Coordinates of a model's outputs in the space that they can reach.

Figures depend on outputs through their inner products alone: of samples with one another and with
features. With u = Φ Wᵀ + b outputs lie in the span of the columns of [W b], of p + 1 dimensions at
most; in an orthonormal basis Q of it, coordinates Z = F Q keep every inner product, F Fᵀ = Z Zᵀ. So
sums over 65,536 outputs of 768 features are of 769 coordinates.
"""

import math
from typing import Self

import torch
from torch import Tensor

# Outputs that are turned at once, so that a copy of them in float64 takes 32 MiB.
_BLOCK = 1 << 22


class OutputSpace:
    """Where the outputs of a model lie.

    Args:
        outputs: Their number C.
        basis: Q `(C, q)` float64, orthonormal columns; None: the outputs are their own coordinates.
        device: Where the coordinates are, if there is no basis that is there; None: on the CPU.

    Attributes:
        outputs: Their number C.
        basis: As given.
        size: Number of coordinates, q.
        mean: What gives each sample's mean output, Z · mean: `(q,)`.
    """

    def __init__(
        self, outputs: int, basis: Tensor | None = None, device: torch.device | None = None
    ) -> None:
        self.outputs = outputs
        self.basis = basis
        self.size = outputs if basis is None else basis.shape[1]
        if basis is None:
            share = 1 / max(outputs, 1)
            self.mean = torch.full((outputs,), share, dtype=torch.float64, device=device)
            outside = 0.0
        else:
            self.mean = basis.mean(0)
            # Not as 1 − C‖mean‖², which cancels where all of it is inside.
            outside = float((1.0 - basis @ (outputs * self.mean)).square().mean())
        self._removed = 1.0 - math.sqrt(outside)

    @classmethod
    def of_head(
        cls,
        outputs: int,
        weight: Tensor | None,
        bias: Tensor | None,
        device: torch.device | None = None,
    ) -> Self:
        """The space that a linear layer can reach, where it is smaller than that of all outputs.

        Args:
            outputs: C.
            weight: W `(C, p)` of u = Φ Wᵀ + b; None: not known, so that it may be all of them.
            bias: b `(C,)`, if there is one.
            device: Where coordinates are wanted; None: on the CPU.
        """
        if weight is None or outputs <= weight.shape[1] + 1:
            return cls(outputs, device=device)
        columns = weight if bias is None else torch.cat([weight, bias[:, None]], 1)
        # Householder's: columns are orthonormal even where those of W depend on one another.
        return cls(outputs, torch.linalg.qr(columns.to(device, torch.float64))[0])

    @property
    def device(self) -> torch.device:
        """Where coordinates are."""
        return self.mean.device

    def within(self, basis: Tensor | None) -> Self:
        """The space of fewer coordinates, given an orthonormal basis `(size, q)` of these."""
        if basis is None:
            return self
        return type(self)(self.outputs, basis if self.basis is None else self.basis @ basis)

    def without_mean(self, coordinates: Tensor) -> Tensor:
        """Coordinates of outputs less their mean over outputs, up to a rotation.

        Removing the mean is the projection P along the vector of ones: `F P Fᵀ = Z Qᵀ P Q Zᵀ`, and
        `Qᵀ P Q` is 1 across the direction of `mean` and, along it, the share s of the ones that is
        outside the space. Its root keeps √s of that direction.

        Args:
            coordinates: `(..., q)`, of rows, or inner products of anything with them.
        """
        length = self.mean.norm()
        if length == 0:
            return coordinates
        direction = self.mean / length
        along = coordinates @ (self._removed * direction)
        removed: Tensor = along[..., None] * direction
        return coordinates - removed

    def coordinates(self, outputs: Tensor) -> Tensor:
        """Coordinates `(rows, size)` of outputs `(rows, C)`; the outputs if they are their own."""
        if self.basis is None:
            return outputs
        found = self.basis.new_empty(len(outputs), self.size)
        step = max(1, _BLOCK // self.outputs)
        for start in range(0, len(outputs), step):
            rows = slice(start, start + step)
            torch.mm(outputs[rows].to(self.basis), self.basis, out=found[rows])
        return found

    def expand(self, coordinates: Tensor) -> Tensor:
        """Outputs `(rows, C)` of coordinates `(rows, size)`."""
        return coordinates if self.basis is None else coordinates @ self.basis.T
