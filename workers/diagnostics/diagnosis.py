"""From the moments of folds to every figure of a report."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
import torch

from workers.diagnostics.alignment import Alignment, align
from workers.diagnostics.diagonalization import Eigenpairs, diagonalize
from workers.diagnostics.errors import (
    DegenerateFeaturesError,
    NonFiniteError,
    TooFewSamplesError,
)
from workers.diagnostics.intervals import Interval
from workers.diagnostics.minimality import learned_basis, minimality, without_mean_output
from workers.diagnostics.moments import Averages, Moments
from workers.diagnostics.performance import Task
from workers.diagnostics.projections import Projections, project
from workers.diagnostics.ranks import EffectiveRank, effective_rank
from workers.diagnostics.uncertainty import (
    alignment_intervals,
    minimality_intervals,
    without_each_fold,
)
from workers.diagnostics.verdict import THRESHOLDS, Circumstances, Verdict, judge

# A spectrum and its intervals over ten folds mean nothing below one sample a fold.
MIN_SAMPLES = 10
MIN_FOLDS = 2


@dataclass(frozen=True, eq=False)
class CenteredSpectrum:
    """Spectrum of the features without their mean over the samples.

    Attributes:
        eigenvalues: `(rank,)`, decreasing, in units of the features squared.
        relative: `ρ_k/ρ_1`.
        rank: Numerical rank.
    """

    eigenvalues: np.ndarray
    relative: np.ndarray
    rank: int


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Spectrum of the features as given.

    Attributes:
        eigenvalues: `(rank,)`, decreasing, in units of the features squared.
        relative: `ρ_k/ρ_1`.
        trace: `Σρ` of all eigenvalues, those past the rank included.
        rank: Numerical rank.
        centered: The same without the mean.
    """

    eigenvalues: np.ndarray
    relative: np.ndarray
    trace: float
    rank: int
    centered: CenteredSpectrum


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """Everything the moments tell about a model on a probe.

    Attributes:
        n: Rows: samples, or positions of samples for a dense model.
        eigenvectors: `(p, rank)`; `e_k(x) = eigenvectors[:, k]ᵀ Φ(x) / √spectrum.eigenvalues[k]`.
        centered_eigenvectors: `(p, rank)` of the centred spectrum; the same for its eigenfunctions.
        spectrum: Eigenvalues, uncentred and centred.
        projections: Quality and utilization as given.
        centered_projections: The same with the constant removed from Φ, F and Y.
        effective_rank: Of the centred spectrum; None if the features are constant.
        uncentered_effective_rank: Of the spectrum as given, which mostly sees the constant.
        alignment: D_LR and CKA.
        alignment_interval: 95 % interval of each of them, by name.
        verdict: MF or EF, and why.
    """

    n: int
    eigenvectors: np.ndarray
    centered_eigenvectors: np.ndarray
    spectrum: Spectrum
    projections: Projections
    centered_projections: Projections
    effective_rank: EffectiveRank | None
    uncentered_effective_rank: EffectiveRank
    alignment: Alignment
    alignment_interval: dict[str, Interval | None]
    verdict: Verdict


@torch.inference_mode()
def diagnose(
    folds: Sequence[Moments],
    *,
    task: Task,
    positions: int = 1,
    output_tolerance: float = 1e-6,
    verdict_tolerance: float = 1e-3,
) -> Diagnosis:
    """Diagnose a model from its moments on disjoint folds of a probe.

    Folds should be alike (samples dealt out in turn, ten folds as a rule): the intervals come from
    leaving one out at a time.

    Args:
        folds: Sums over disjoint sets of samples; empty ones are ignored.
        task: Whether the outputs are logits of classes or regression values.
        positions: Rows a sample. Moments count rows, and inner products average over them; but the
            positions of one image or sentence are alike, so they are no evidence of their own, and
            whether there is enough of it is judged by samples.
        output_tolerance: `dim Ĥ` counts singular values of the outputs above this share of the
            first.
        verdict_tolerance: The same for r, the rank of the cleaned outputs.

    Raises:
        TooFewSamplesError: Fewer than 10 samples, or fewer than 2 folds hold any.
        NonFiniteError: The features are too large for their squares.
        DegenerateFeaturesError: All features are zero everywhere.
        IncompatibleShapesError: The folds are of different models or probes.
    """
    folds = [fold for fold in folds if fold.n]
    total = _total(folds, positions)
    samples = total.n // positions
    raw, centered = total.averages(), total.centered_averages()
    pairs = diagonalize(raw.phi_phi, n=samples, positions=positions)
    entire_rank = effective_rank(pairs.eigenvalues)
    if entire_rank is None:
        raise DegenerateFeaturesError(
            f"All {total.p} features are zero on all {samples} samples. Either every unit is dead, "
            "or the probe is not scaled as the model was trained."
        )
    centered_pairs = diagonalize(
        centered.phi_phi, n=samples, positions=positions, noise=centered.phi_noise
    )
    projections = project(raw, pairs, output_tolerance=output_tolerance)
    alignment = align(raw, centered, output_tolerance=output_tolerance)

    cleaned = without_mean_output(centered, task)
    basis = learned_basis(cleaned, tolerance=verdict_tolerance)
    directions = _directions(raw, centered, centered_pairs, basis.shape[1])
    figures = minimality(cleaned, centered_pairs, basis, directions=directions)
    left_out = without_each_fold(
        folds,
        total,
        figures,
        centered_pairs,
        task=task,
        directions=directions,
        output_tolerance=output_tolerance,
        verdict_tolerance=verdict_tolerance,
    )
    sizes = [fold.n for fold in folds]
    circumstances = Circumstances(
        n=samples,
        p=total.p,
        outputs=total.c,
        directions=directions,
        feature_rank=centered_pairs.rank,
        class_counts=total.y.numpy() if task == "classification" and total.d else None,
        positions=positions,
    )
    return Diagnosis(
        n=total.n,
        eigenvectors=pairs.eigenvectors.numpy(),
        centered_eigenvectors=centered_pairs.eigenvectors.numpy(),
        spectrum=_spectrum(raw, pairs, centered_pairs),
        projections=projections,
        centered_projections=project(centered, centered_pairs, output_tolerance=output_tolerance),
        effective_rank=effective_rank(centered_pairs.eigenvalues),
        uncentered_effective_rank=entire_rank,
        alignment=alignment,
        alignment_interval=alignment_intervals(alignment, left_out, sizes),
        verdict=judge(
            figures,
            minimality_intervals(figures, left_out, sizes, directions=directions),
            circumstances,
            projections,
        ),
    )


def _total(folds: Sequence[Moments], positions: int) -> Moments:
    n = sum(fold.n for fold in folds) // positions
    if n < MIN_SAMPLES:
        raise TooFewSamplesError(
            f"The probe has {n} samples, at least {MIN_SAMPLES} are needed for any figure, and "
            f"{THRESHOLDS.min_samples} or more for a verdict. Send more samples; "
            f"{THRESHOLDS.warn_samples} make the figures steady."
        )
    if len(folds) < MIN_FOLDS:
        raise TooFewSamplesError(
            f"Only {len(folds)} fold holds samples, at least {MIN_FOLDS} are needed for intervals. "
            "Deal the samples out over ten folds."
        )
    total = reduce(add, folds)
    for name, sums in (("features", total.phi_phi), ("outputs", total.f_f), ("targets", total.y_y)):
        if not bool(torch.isfinite(sums).all()):
            raise NonFiniteError(
                f"The {name} are finite but too large to be squared in float64. Scale the model "
                "down."
            )
    return total


def _directions(raw: Averages, centered: Averages, pairs: Eigenpairs, r: int) -> int:
    """How many independent directions the features could use.

    That is their rank. But where training itself has collapsed the features of a wide layer onto
    fewer than 2r directions, as exact neural collapse does, the rank says nothing about the room
    there was: then it is the number of units that vary at all, as far as the samples can tell them
        apart.
    """
    noise = centered.phi_noise * raw.phi.square() / raw.phi.square().sum().clamp(min=1e-300)
    varying = int((centered.phi_phi.diagonal() > noise).sum())
    width = min(varying, raw.n - 1)
    return width if pairs.rank < THRESHOLDS.min_rank_ratio * r <= width else pairs.rank


def _spectrum(raw: Averages, pairs: Eigenpairs, centered: Eigenpairs) -> Spectrum:
    return Spectrum(
        eigenvalues=pairs.eigenvalues.numpy(),
        relative=_relative(pairs),
        trace=float(raw.phi_phi.trace()),
        rank=pairs.rank,
        centered=CenteredSpectrum(
            eigenvalues=centered.eigenvalues.numpy(),
            relative=_relative(centered),
            rank=centered.rank,
        ),
    )


def _relative(pairs: Eigenpairs) -> np.ndarray:
    relative: np.ndarray = (pairs.eigenvalues / pairs.eigenvalues[:1]).numpy()
    return relative
