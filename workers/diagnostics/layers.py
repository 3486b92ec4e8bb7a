"""Figures of a layer, from the sums over its features."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import reduce
from operator import add

import numpy as np
import torch

from workers.diagnostics.alignment import Alignment, align
from workers.diagnostics.averages import Averages
from workers.diagnostics.diagonalization import Eigenpairs, diagonalize, leading_eigenvalues
from workers.diagnostics.intervals import Interval, jackknife_interval
from workers.diagnostics.moments import Moments
from workers.diagnostics.projections import project
from workers.diagnostics.ranks import TAIL_RANKS, EffectiveRank, effective_rank


@dataclass(frozen=True, eq=False)
class LayerProjections:
    """Spectrum of a layer and its cumulative projections, all `(rank,)` by decreasing eigenvalue.

    Attributes:
        rank: Numerical rank; 0 if the features are zero everywhere, or constant once centred.
        eigenvalues: `ρ_k`, in units of the features squared.
        cumulative_quality: `Π*(k)`; None without targets.
        cumulative_utilization: `Π̂(k)`, of the network's outputs; None without any.
    """

    rank: int
    eigenvalues: np.ndarray
    cumulative_quality: np.ndarray | None
    cumulative_utilization: np.ndarray | None


@dataclass(frozen=True, eq=False)
class LayerDiagnosis:
    """What the moments tell about a layer.

    Attributes:
        uncentered: Spectrum and projections as given.
        centered: The same with the constant removed from Φ, F and Y.
        effective_rank: Of the centred spectrum; None if the features are constant.
        alignment: `D_LR` and CKA, with the layer's features and the network's outputs.
        confidence_interval: 95 % interval of the effective ranks and alignments, by name; None
            where a figure is undefined without some fold, and for what the weakest eigenvalues
            decide where samples are fewer than features. Empty without folds.
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
    """Figures of a layer, without the verdict.

    Args:
        folds: Sums over the layer's features and the network's outputs and targets, of disjoint
            sets of samples; of a single set there are no intervals.
        output_tolerance: `dim Ĥ` counts singular values of the outputs above this share of the
            first.

    Returns:
        The figures, each as `diagnose` gives it; None if the features hold NaN or infinity, or are
        too large for their squares.
    """
    folds = [fold for fold in folds if fold.n]
    total = reduce(add, folds)
    if not bool(torch.isfinite(total.phi_phi).all() & torch.isfinite(total.phi_f).all()):
        return None
    # One after the other: a wide layer's matrices are large, and none of the first is needed again.
    found = _diagnose(total, output_tolerance)
    if len(folds) == 1:
        return found
    return replace(found, confidence_interval=_intervals(found, folds, total, output_tolerance))


def _diagnose(total: Moments, output_tolerance: float) -> LayerDiagnosis:
    raw, centered = total.averages(), total.centered_averages()
    pairs = diagonalize(raw.phi_phi, rows=raw.n)
    centered_pairs = diagonalize(centered.phi_phi, rows=raw.n, noise=centered.phi_noise)
    return LayerDiagnosis(
        uncentered=_projections(raw, pairs, output_tolerance),
        centered=_projections(centered, centered_pairs, output_tolerance),
        effective_rank=effective_rank(centered_pairs.eigenvalues),
        alignment=align(raw, centered, output_tolerance=output_tolerance),
        confidence_interval={},
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


def _scalars(ranks: EffectiveRank | None, alignment: Alignment) -> dict[str, float | None]:
    return {**({} if ranks is None else asdict(ranks)), **asdict(alignment)}


def _intervals(
    entire: LayerDiagnosis, folds: Sequence[Moments], total: Moments, output_tolerance: float
) -> dict[str, Interval | None]:
    """95 % intervals from leaving one fold out at a time, as for the figures of Φ."""
    left_out = []
    for fold in folds:
        rest = total.without(fold)
        raw, centered = rest.averages(), rest.centered_averages()
        eigenvalues = leading_eigenvalues(centered.phi_phi, min(entire.centered.rank, rest.n - 1))
        left_out.append(
            _scalars(
                effective_rank(eigenvalues),
                align(raw, centered, output_tolerance=output_tolerance),
            )
        )
    sizes = [fold.n for fold in folds]
    shares = set(asdict(Alignment(None, None, None)))
    unknown = TAIL_RANKS if total.n < total.p else ()  # as for Φ
    return {
        name: None
        if name in unknown
        else jackknife_interval(
            value,
            [figures.get(name) for figures in left_out],
            sizes,
            lowest=0.0 if name in shares else 1.0,
            highest=1.0 if name in shares else float(total.p),
        )
        for name, value in _scalars(entire.effective_rank, entire.alignment).items()
    }
