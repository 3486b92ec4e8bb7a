"""Coordinates of a model's outputs in the space that they can reach.

Figures depend on the outputs only through inner products of samples with one another and with
features. With u = Φ Wᵀ + b, the outputs lie in the span of the columns of [W b], which has at most
p + 1 dimensions. In an orthonormal basis Q of this span, coordinates Z = F Q preserve every inner
product: F Fᵀ = Z Zᵀ. Sums over 65,536 outputs of 768 features thus need only 769 coordinates.
"""

import math
from typing import Self

import torch
from torch import Tensor

# Outputs converted to coordinates at once, so that their float64 copy takes 32 MiB.
_BLOCK = 1 << 22


class OutputSpace:
    """Space that the outputs of a model lie in.

    Args:
        outputs: Number of outputs, C.
        basis: Q `(C, q)` float64, orthonormal columns; None: the outputs are their own coordinates.
        device: Device of the coordinates if there is no basis to set it; None: the CPU.

    Attributes:
        outputs: Number of outputs, C.
        basis: As given.
        size: Number of coordinates, q.
        mean: Vector that gives each sample's mean output as Z · mean, `(q,)`.
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
            # Not computed as 1 − C‖mean‖², which cancels if the vector of ones lies in the space.
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
        """Build the space that a linear layer can reach, if smaller than that of all outputs.

        Args:
            outputs: Number of outputs, C.
            weight: W `(C, p)` of u = Φ Wᵀ + b; None: not known, and then any outputs may occur.
            bias: b `(C,)`, if there is one.
            device: Device for the coordinates; None: the CPU.
        """
        if weight is None or outputs <= weight.shape[1] + 1:
            return cls(outputs, device=device)
        columns = weight if bias is None else torch.cat([weight, bias[:, None]], 1)
        # Householder QR: columns are orthonormal even if those of W are linearly dependent.
        return cls(outputs, torch.linalg.qr(columns.to(device, torch.float64))[0])

    @property
    def device(self) -> torch.device:
        """Device of the coordinates."""
        return self.mean.device

    def within(self, basis: Tensor | None) -> Self:
        """Restrict to fewer coordinates, given an orthonormal basis `(size, q)` in these."""
        if basis is None:
            return self
        return type(self)(self.outputs, basis if self.basis is None else self.basis @ basis)

    def without_mean(self, coordinates: Tensor) -> Tensor:
        """Remove each sample's mean over outputs, in coordinates and up to a rotation.

        Removing the mean is the projection P orthogonal to the vector of ones:
        `F P Fᵀ = Z Qᵀ P Q Zᵀ`. `Qᵀ P Q` is the identity except along the direction of `mean`, where
        it is the share s of the vector of ones that lies outside the space. Its square root,
        applied here, multiplies that direction by √s.

        Args:
            coordinates: `(..., q)`: of rows, or inner products of anything with the coordinates.
        """
        length = self.mean.norm()
        if length == 0:
            return coordinates
        direction = self.mean / length
        along = coordinates @ (self._removed * direction)
        removed: Tensor = along[..., None] * direction
        return coordinates - removed

    def coordinates(self, outputs: Tensor) -> Tensor:
        """Return coordinates `(rows, size)` of outputs `(rows, C)`; these, without a basis."""
        if self.basis is None:
            return outputs
        found = self.basis.new_empty(len(outputs), self.size)
        step = max(1, _BLOCK // self.outputs)
        for start in range(0, len(outputs), step):
            rows = slice(start, start + step)
            torch.mm(outputs[rows].to(self.basis), self.basis, out=found[rows])
        return found

    def expand(self, coordinates: Tensor) -> Tensor:
        """Return the outputs `(rows, C)` of coordinates `(rows, size)`."""
        return coordinates if self.basis is None else coordinates @ self.basis.T
