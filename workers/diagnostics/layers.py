"""Figures of a layer, from the sums over its features."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import numpy as np
import torch

from workers.diagnostics.alignment import Alignment, alignments
from workers.diagnostics.averages import Averages
from workers.diagnostics.diagonalization import Eigenpairs
from workers.diagnostics.figures import Sizes, Values, filled
from workers.diagnostics.intervals import Interval, jackknife
from workers.diagnostics.moments import Moments
from workers.diagnostics.projections import project
from workers.diagnostics.ranks import EffectiveRank
from workers.diagnostics.spectra import (
    FEW_FEATURES,
    CenteredNeighbours,
    Spectrum,
    nearby,
    solved,
    spectrum,
)
from workers.diagnostics.uncertainty import Numbers, intervals_of, numbers_of


@dataclass(frozen=True, eq=False)
class LayerProjections:
    """Spectrum of a layer and its cumulative projections, all `(rank,)` by decreasing eigenvalue.

    Attributes:
        rank: Numerical rank; 0 if the features are zero everywhere or, once centred, constant.
        eigenvalues: `ρ_k`, in units of the features squared.
        cumulative_quality: `Π*(k)`; None without targets.
        cumulative_utilization: `Π̂(k)` of the network's outputs; None without outputs.
    """

    rank: int
    eigenvalues: np.ndarray
    cumulative_quality: np.ndarray | None
    cumulative_utilization: np.ndarray | None


@dataclass(frozen=True, eq=False)
class LayerDiagnosis:
    """Figures of a layer, from its moments.

    Attributes:
        uncentered: Uncentred spectrum and projections.
        centered: The same with the constant removed from Φ, F and Y.
        effective_rank: Effective ranks of the centred spectrum; None if the features are constant.
        alignment: `D_LR` and CKA, with the layer's features and the network's outputs.
        confidence_interval: 95 % interval of the effective ranks and alignments, by name; None
            where a figure is undefined without some fold, and, with fewer samples than features,
            for figures that the weakest eigenvalues determine. Empty if there is a single fold.
    """

    uncentered: LayerProjections
    centered: LayerProjections
    effective_rank: EffectiveRank | None
    alignment: Alignment
    confidence_interval: dict[str, Interval | None]


@torch.inference_mode()
def diagnose_layer(
    folds: Sequence[Moments], *, output_tolerance: float = 1e-6
) -> LayerDiagnosis | None:
    """Compute the figures of a layer, without the verdict.

    Args:
        folds: Sums over the layer's features and the network's outputs and targets, on disjoint
            sets of samples; a single set gives no intervals.
        output_tolerance: `dim Ĥ` counts singular values of the outputs above this share of the
            first.

    Returns:
        The figures, each as `diagnose` gives it; None if the features hold NaN or infinity, or are
        too large to be squared in float64.
    """
    folds = [fold for fold in folds if fold.n]
    total = reduce(add, folds)
    if not bool(torch.isfinite(total.phi_phi).all() & torch.isfinite(total.phi_f).all()):
        return None
    raw = total.averages()
    uncentered = _projections(raw, spectrum(raw, total.p).pairs, output_tolerance)
    # One spectrum after the other: a wide layer's matrices are large, and the uncentred
    # eigenvectors are not needed again.
    centered = raw.centered()
    entire = spectrum(centered, total.p)
    pairs = entire.pairs
    aligned = alignments(raw, centered, output_tolerance=output_tolerance)
    found = LayerDiagnosis(
        uncentered=uncentered,
        centered=_projections(centered, pairs, output_tolerance),
        effective_rank=filled(EffectiveRank, entire.effective) if pairs.rank else None,
        alignment=filled(Alignment, aligned),
        confidence_interval={},
    )
    if len(folds) == 1:
        return found
    groups = (EffectiveRank, Alignment) if pairs.rank else (Alignment,)
    statistic = _Statistic(total, folds[0], centered, entire, output_tolerance)
    left_out = jackknife(total, folds, lambda rest: _numbers(groups, statistic(rest)))
    sizes = [fold.n for fold in folds]
    bounds = Sizes(features=total.p, directions=total.p, targets=total.d, outputs=total.c)
    intervals: dict[str, Interval | None] = {}
    for group, *rests in zip(groups, *left_out, strict=True):
        values = numbers_of(group, {**entire.effective, **aligned})
        intervals |= intervals_of(group, values, rests, sizes, bounds)
    return replace(found, confidence_interval=intervals)


def _numbers(groups: Sequence[type], values: Values) -> list[Numbers]:
    return [numbers_of(group, values) for group in groups]


class _Statistic:
    """Figures of a layer that have an interval, from all samples but one fold's.

    Args:
        total: Sums over all samples.
        fold: Sums over any one fold.
        centered: Centred inner products of all samples.
        entire: Centred spectrum of all samples.
        output_tolerance: As for `diagnose_layer`.
    """

    def __init__(
        self,
        total: Moments,
        fold: Moments,
        centered: Averages,
        entire: Spectrum,
        output_tolerance: float,
    ) -> None:
        self._entire = entire
        self._tolerance = output_tolerance
        self._near: CenteredNeighbours | None = None
        if total.p > FEW_FEATURES and entire.pairs.rank:
            example = total.without(fold).centered_averages()
            self._near = CenteredNeighbours(entire, centered, example, total.p)

    def __call__(self, rest: Moments) -> Values:
        raw = rest.averages()
        centered = raw.centered()
        leading = self._near and nearby(self._entire.pairs, centered, 1)
        found = (
            self._near.near(centered, leading)
            if self._near and leading
            else solved(centered, rest.p, self._entire.pairs)
        )
        return {
            **found.effective,
            **alignments(raw, centered, output_tolerance=self._tolerance),
        }


def _projections(
    averages: Averages, pairs: Eigenpairs, output_tolerance: float
) -> LayerProjections:
    found = project(averages, pairs, output_tolerance=output_tolerance)
    return LayerProjections(
        rank=pairs.rank,
        eigenvalues=pairs.eigenvalues.cpu().numpy(),
        cumulative_quality=found.cumulative_quality,
        cumulative_utilization=found.cumulative_utilization,
    )
