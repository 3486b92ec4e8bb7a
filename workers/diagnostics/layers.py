"""Figures of many layers at once: sums over the samples, and what follows from them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from workers.diagnostics.alignment import align
from workers.diagnostics.diagonalization import Eigenpairs, diagonalize
from workers.diagnostics.folds import joined
from workers.diagnostics.moments import Averages, Moments
from workers.diagnostics.projections import project
from workers.diagnostics.ranks import EffectiveRank, effective_rank

# As for the folds: a product of a few rows would move the sums through memory for little work.
_BUFFERED_ROWS = 512


class LayerSums:
    """Sums over samples of the features of several layers at once, in float64.

    What concerns outputs F and targets Y alone is the same for every layer, and with a thousand
    outputs it would outweigh the rest, so it is summed once.

    Args:
        widths: Features of each layer.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        self._grams = [_zeros(p, p) for p in widths]
        self._crosses: list[Tensor] = []
        # Moments of the one feature that is 1 everywhere: all that is the same for every layer.
        self._functions: Moments | None = None
        self._waiting: list[tuple[Sequence[Tensor], Tensor, Tensor | None, Tensor | None]] = []

    def update(
        self,
        features: Sequence[Tensor],
        outputs: Tensor,
        targets: Tensor | None,
        weights: Tensor | None = None,
    ) -> None:
        """Add a batch of samples.

        Args:
            features: Of each layer, `(batch, p)`, any real dtype.
            outputs: Outputs of the network's final linear layer, `(batch, c)`.
            targets: Targets `(batch, d)`, or None; always the same of the two.
            weights: How much each sample counts, positive, `(batch,)`; None: 1 each. Likewise.
        """
        self._waiting.append((features, outputs, targets, weights))
        if sum(len(outputs) for _, outputs, _, _ in self._waiting) >= _BUFFERED_ROWS:
            self._multiply()

    def moments(self) -> Iterator[Moments]:
        """The moments of each layer's features with the network's outputs and targets."""
        self._multiply()
        functions = self._functions
        if functions is None:
            return
        for gram, cross in zip(self._grams, self._crosses, strict=True):
            yield replace(
                functions,
                phi=cross[:, -1],
                phi_phi=gram,
                phi_f=cross[:, : functions.c],
                phi_y=cross[:, functions.c : -1],
            )

    def _multiply(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        batches, outputs, targets, weights = zip(*waiting, strict=True)
        f, y, w = torch.cat(outputs).double(), joined(targets), joined(weights)
        one = f.new_ones(len(f), 1)
        functions = torch.cat([f, one] if y is None else [f, y, one], 1)
        if self._functions is None:
            self._functions = Moments.zeros(1, f.shape[1], functions.shape[1] - f.shape[1] - 1)
            self._crosses = [_zeros(len(gram), functions.shape[1]) for gram in self._grams]
        self._functions.update(one, f, y, w)
        functions = _weighted(functions, w)
        for parts, gram, cross in zip(
            zip(*batches, strict=True), self._grams, self._crosses, strict=True
        ):
            phi = _weighted(torch.cat(parts).double(), w)
            gram.addmm_(phi.T, phi)
            cross.addmm_(phi.T, functions)


def _weighted(rows: Tensor, weights: Tensor | None) -> Tensor:
    """Rows scaled so that their plain products are the weighted ones."""
    return rows if weights is None else weights.double().sqrt()[:, None] * rows


def _zeros(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class LayerProjections:
    """Spectrum of a layer and its cumulative projections, all `(rank,)` by decreasing eigenvalue.

    Attributes:
        rank: Numerical rank; 0 if the features are zero everywhere, or constant once centred.
        eigenvalues: `ρ_k`, in units of the features squared.
        cumulative_quality: `Π*(k)`; None without targets.
        cumulative_utilization: `Π̂(k)`, of the network's outputs.
    """

    rank: int
    eigenvalues: np.ndarray
    cumulative_quality: np.ndarray | None
    cumulative_utilization: np.ndarray


@dataclass(frozen=True, eq=False)
class LayerDiagnosis:
    """What the moments tell about a layer.

    Attributes:
        uncentered: Spectrum and projections as given.
        centered: The same with the constant removed from Φ, F and Y.
        effective_rank: Of the centred spectrum; None if the features are constant.
        d_lr: `D_LR = 1 − CKA(T, T_MP)` with the layer's T and the network's Ĥ.
        cka_target: Linear CKA(Φ, Y).
        cka_outputs: Linear CKA(Φ, F).
    """

    uncentered: LayerProjections
    centered: LayerProjections
    effective_rank: EffectiveRank | None
    d_lr: float | None
    cka_target: float | None
    cka_outputs: float | None


@torch.inference_mode()
def diagnose_layer(moments: Moments, *, output_tolerance: float = 1e-6) -> LayerDiagnosis | None:
    """Figures of a layer, without the verdict and its intervals.

    Args:
        moments: Sums over the layer's features and the network's outputs and targets.
        output_tolerance: `dim Ĥ` counts singular values of the outputs above this share of the
            first.

    Returns:
        The figures, each as `diagnose` gives it; None if the features hold NaN or infinity, or are
        too large for their squares.
    """
    if not bool(torch.isfinite(moments.phi_phi).all() & torch.isfinite(moments.phi_f).all()):
        return None
    raw, centered = moments.averages(), moments.centered_averages()
    pairs = diagonalize(raw.phi_phi, rows=raw.n)
    centered_pairs = diagonalize(centered.phi_phi, rows=raw.n, noise=centered.phi_noise)
    alignment = align(raw, centered, output_tolerance=output_tolerance)
    return LayerDiagnosis(
        uncentered=_projections(raw, pairs, output_tolerance),
        centered=_projections(centered, centered_pairs, output_tolerance),
        effective_rank=effective_rank(centered_pairs.eigenvalues),
        d_lr=alignment.d_lr,
        cka_target=alignment.cka_target,
        cka_outputs=alignment.cka_outputs,
    )


def _projections(
    averages: Averages, pairs: Eigenpairs, output_tolerance: float
) -> LayerProjections:
    found = project(averages, pairs, output_tolerance=output_tolerance)
    return LayerProjections(
        rank=pairs.rank,
        eigenvalues=pairs.eigenvalues.numpy(),
        cumulative_quality=found.cumulative_quality,
        cumulative_utilization=found.cumulative_utilization,
    )
