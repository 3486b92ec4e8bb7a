"""From the moments of folds to every figure of a report."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import numpy as np
import torch
from torch import Tensor

from service.contract.rule import THRESHOLDS
from workers.diagnostics.alignment import Alignment, align
from workers.diagnostics.averages import Averages
from workers.diagnostics.compression import CompressedModel, Rows, compress
from workers.diagnostics.diagonalization import Eigenpairs, diagonalize, oriented
from workers.diagnostics.errors import (
    DegenerateFeaturesError,
    NonFiniteError,
    TooFewSamplesError,
)
from workers.diagnostics.evidence import Evidence, gather
from workers.diagnostics.intervals import unbiased_share_interval
from workers.diagnostics.minimality import (
    learned_basis,
    minimality,
    reaches,
    without_mean_output,
)
from workers.diagnostics.moments import Moments
from workers.diagnostics.neural_collapse import (
    NeuralCollapse,
    nearest_mean_mismatches,
    neural_collapse,
)
from workers.diagnostics.output_space import OutputSpace
from workers.diagnostics.performance import Performance, Task
from workers.diagnostics.projections import Projections, project
from workers.diagnostics.ranks import EffectiveRank, effective_rank
from workers.diagnostics.uncertainty import Figures, Intervals, Setting, intervals
from workers.diagnostics.verdict import Circumstances, Verdict, judge

# A spectrum and its intervals over ten folds mean nothing below one sample a fold.
MIN_SAMPLES = 10
MIN_FOLDS = 2
_FLOAT64_EPS = float(np.finfo(np.float64).eps)


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
        verdict: MF or EF, and why.
        evidence: How good features and answers are, for the second axis.
        neural_collapse: NC1 to NC3; None unless there are classes that exclude each other.
        nc4: NC4 on the given rows; None likewise.
        compression: What is left of the model with its first k eigenfunctions; empty without rows.
        trials: How many of the rows that NC4 and compression are of are surely independent.
        confidence_interval: 95 % intervals by part and name of the report; those of the verdict's
            figures are with the verdict too.
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
    verdict: Verdict
    evidence: Evidence
    neural_collapse: NeuralCollapse | None
    nc4: float | None
    compression: tuple[CompressedModel, ...]
    trials: int
    confidence_interval: Intervals


@torch.inference_mode()
def diagnose(
    folds: Sequence[Moments],
    *,
    task: Task,
    positions: float = 1,
    head: Tensor | None = None,
    rows: Rows | None = None,
    performances: Sequence[Performance] = (),
    classes: int | None = None,
    basis: Tensor | None = None,
    space: OutputSpace | None = None,
    precision: float | None = None,
    output_tolerance: float = 1e-6,
    verdict_tolerance: float = 1e-3,
) -> Diagnosis:
    """Diagnose a model from its moments on disjoint folds of a probe.

    Folds should be alike (samples dealt out in turn, ten folds as a rule): the intervals come from
    leaving one out at a time.

    Args:
        folds: Sums over disjoint sets of samples; empty ones are ignored.
        task: What the outputs tell: a class, which of several labels, or values.
        positions: Rows a sample, on average. Moments count rows, and inner products average over
            them; but the positions of one image or sentence are alike, so they are no evidence of
            their own, and whether there is enough of it is judged by samples.
        head: Weights of the final linear layer `(c, p)`, for NC3.
        rows: Single rows, for NC4 and the compression curve.
        performances: Sums over the rows of each fold; none without targets.
        classes: How many the model tells apart; None if that is not known. Labels may name fewer.
        basis: `(p, q)`, orthonormal columns, where the moments are of the features' coordinates in
            this basis (see `Folds`); None: of the features themselves.
        space: Whose coordinates the outputs of the moments are; None: they are the outputs
            themselves.
        precision: Machine epsilon of the features as the model gave them, if coarser than that of
            float32, which the rank takes for granted.
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
    samples = round(total.n / positions)
    if space is None:
        space = OutputSpace(total.c)
    raw, centered = total.averages(), total.centered_averages()
    p = total.p if basis is None else basis.shape[0]
    pairs = diagonalize(raw.phi_phi, rows=total.n, features=p)
    uncentered_rank = effective_rank(pairs.eigenvalues)
    if uncentered_rank is None:
        raise DegenerateFeaturesError(
            f"All {p} features are zero on all {samples} samples. Either every unit is dead, "
            "or the probe is not scaled as the model was trained."
        )
    centered_pairs = diagonalize(
        centered.phi_phi, rows=total.n, noise=centered.phi_noise, features=p
    )
    projections = project(raw, pairs, output_tolerance=output_tolerance)
    centered_projections = project(centered, centered_pairs, output_tolerance=output_tolerance)

    cleaned = without_mean_output(centered, task, space)
    learned = learned_basis(cleaned, tolerance=verdict_tolerance)
    directions = _directions(raw, centered, centered_pairs, learned.shape[1], basis)
    has_classes = task == "classification" and total.d > 0
    reached = reaches(cleaned, centered_pairs, learned)
    figures = Figures(
        minimality=minimality(cleaned, centered_pairs, learned, reached, directions=directions),
        reaches=reached,
        alignment=align(raw, centered, output_tolerance=output_tolerance),
        effective_rank=effective_rank(centered_pairs.eigenvalues),
        uncentered_effective_rank=uncentered_rank,
        trace=float(raw.phi_phi.trace()),
        rank=pairs.rank,
        centered_rank=centered_pairs.rank,
        projections=projections,
        centered_projections=centered_projections,
        neural_collapse=neural_collapse(total, head, basis=basis) if has_classes else None,
    )
    setting = Setting(
        pairs=pairs,
        centered_pairs=centered_pairs,
        task=task,
        head=head,
        basis=basis,
        space=space,
        features=p,
        directions=directions,
        output_tolerance=output_tolerance,
        verdict_tolerance=verdict_tolerance,
    )
    confidence_interval = intervals(figures, folds, total, setting)
    circumstances = Circumstances(
        n=samples,
        p=p,
        outputs=space.outputs,
        directions=directions,
        feature_rank=centered_pairs.rank,
        class_counts=None if task == "regression" or not total.d else total.y_count.numpy(),
        classes=classes if has_classes else None,
        exclusive=task == "classification",
        positions=positions,
        effective_n=total.effective_n / positions if total.is_weighted else None,
        rounded_from=_first_rounded(pairs, precision),
    )
    if rows is not None and basis is not None:
        rows = replace(rows, features=rows.features.double() @ basis)
    # Rows may be some of all; one a sample is as many as are surely independent.
    nc4, trials = None, 0 if rows is None else min(samples, len(rows.features))
    if has_classes:
        confidence_interval["neural_collapse"]["nc4_mismatch"] = None
    if has_classes and rows is not None and rows.answers is not None:
        nc4, left_out = nearest_mean_mismatches(total, folds, rows.features, rows.answers)
        confidence_interval["neural_collapse"]["nc4_mismatch"] = unbiased_share_interval(
            nc4, left_out, [fold.n for fold in folds], trials
        )
    return Diagnosis(
        n=total.n,
        eigenvectors=_of_features(pairs, basis).numpy(),
        centered_eigenvectors=_of_features(centered_pairs, basis).numpy(),
        spectrum=_spectrum(raw, pairs, centered_pairs),
        projections=projections,
        centered_projections=centered_projections,
        effective_rank=figures.effective_rank,
        uncentered_effective_rank=uncentered_rank,
        alignment=figures.alignment,
        verdict=judge(figures.minimality, confidence_interval["verdict"], circumstances),
        evidence=gather(
            projections,
            [performance for performance in performances if performance.n],
            folds,
            task=task,
            positions=positions,
            quality_interval=confidence_interval["projections"]["quality_at_dim_target"],
        ),
        neural_collapse=figures.neural_collapse,
        nc4=nc4,
        compression=()
        if rows is None
        else compress(
            centered, cleaned, centered_pairs, rows, means=raw, space=space, r=learned.shape[1]
        ),
        trials=trials,
        confidence_interval=confidence_interval,
    )


def _total(folds: Sequence[Moments], positions: float) -> Moments:
    n = round(sum(fold.n for fold in folds) / positions)
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
        if sums is not None and not bool(torch.isfinite(sums).all()):
            raise NonFiniteError(
                f"The {name} are finite but too large to be squared in float64. Scale the model "
                "down."
            )
    return total


def _first_rounded(pairs: Eigenpairs, precision: float | None) -> int | None:
    """The first k whose eigenvalue may be the rounding of the features, if there is one."""
    if precision is None:
        return None
    above = int((pairs.eigenvalues > precision**2 * pairs.eigenvalues[0]).sum())
    return above + 1 if above < pairs.rank else None


def _of_features(pairs: Eigenpairs, basis: Tensor | None) -> Tensor:
    return pairs.eigenvectors if basis is None else oriented(basis @ pairs.eigenvectors)


def _directions(
    raw: Averages, centered: Averages, pairs: Eigenpairs, r: int, basis: Tensor | None
) -> int:
    """How many independent directions the features could use.

    That is their rank. But where training itself has collapsed the features of a wide layer onto
    fewer than 2r directions, as exact neural collapse does, the rank says nothing about the room
    there was: then it is the number of units that vary at all, as far as the samples can tell them
        apart.
    """
    if not pairs.rank < THRESHOLDS.min_rank_ratio * r:
        return pairs.rank
    mean, variance = raw.phi, centered.phi_phi.diagonal()
    rounding = 0.0
    if basis is not None:
        # The eigenpairs leave out what is rounding of the sums, which a unit that does not vary
        # would share through the basis; entries of the basis itself are known to about q·eps.
        mean = basis @ mean
        variance = (basis @ pairs.eigenvectors).square() @ pairs.eigenvalues
        rounding = (basis.shape[1] * _FLOAT64_EPS) ** 2 * float(pairs.eigenvalues.sum())
    noise = centered.phi_noise * mean.square() / mean.square().sum().clamp(min=1e-300)
    varying = int((variance > noise + rounding).sum())
    width = min(varying, raw.n - 1)
    return width if THRESHOLDS.min_rank_ratio * r <= width else pairs.rank


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
