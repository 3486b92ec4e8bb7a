"""From the moments of folds to every figure of a report."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import numpy as np
import torch
from torch import Tensor

from service.contract.rule import THRESHOLDS
from workers.diagnostics.alignment import Alignment
from workers.diagnostics.averages import Averages
from workers.diagnostics.compression import CompressedModel, Rows, compress
from workers.diagnostics.diagonalization import Eigenpairs, oriented
from workers.diagnostics.errors import (
    DegenerateFeaturesError,
    NonFiniteError,
    TooFewSamplesError,
)
from workers.diagnostics.evidence import Evidence, gather
from workers.diagnostics.figures import Group, Values, filled
from workers.diagnostics.intervals import Interval, unbiased_share_interval
from workers.diagnostics.measures import (
    CenteredSpectrum,
    Coordinates,
    Model,
    Setting,
    Spectrum,
    Subject,
    Tolerances,
    measured,
)
from workers.diagnostics.minimality import Minimality
from workers.diagnostics.moments import Moments
from workers.diagnostics.nearest_means import nearest_mean_mismatches
from workers.diagnostics.neural_collapse import NeuralCollapse
from workers.diagnostics.performance import Performance
from workers.diagnostics.projections import Projections
from workers.diagnostics.ranks import EffectiveRank
from workers.diagnostics.spectra import Pair, spectra
from workers.diagnostics.steps import Steps
from workers.diagnostics.uncertainty import Intervals, LeftOut, intervals
from workers.diagnostics.verdict import Circumstances, Verdict, judge

# A spectrum and its intervals over ten folds mean nothing below one sample per fold.
MIN_SAMPLES = 10
MIN_FOLDS = 2
_FLOAT64_EPS = float(np.finfo(np.float64).eps)
_OF_FEATURES, _USUAL = Coordinates(), Tolerances()


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """Everything the moments tell about a model on a probe.

    Attributes:
        n: Number of rows: samples, or positions of samples for a dense model.
        eigenvectors: `(p, rank)`; `e_k(x) = eigenvectors[:, k]ᵀ Φ(x) / √spectrum.eigenvalues[k]`.
        centered_eigenvectors: `(p, rank)`, the same for the centred spectrum.
        spectrum: Eigenvalues, uncentred and centred.
        projections: Uncentred quality and utilization.
        centered_projections: The same with the constant removed from Φ, F and Y.
        effective_rank: Effective ranks of the centred spectrum; None if the features are constant.
        uncentered_effective_rank: The same of the uncentred spectrum, which the constant dominates.
        alignment: D_LR and CKA.
        verdict: MF or EF, and why.
        evidence: How good features and answers are, for the second axis.
        neural_collapse: NC1 to NC3; None unless there are mutually exclusive classes.
        nc4: NC4 on the given rows; None without rows or such classes.
        compression: The compression curve, by number of eigenfunctions kept; empty without rows.
        trials: Number of certainly independent rows among those that NC4 and compression use.
        confidence_interval: 95 % intervals by part of the report and name of the figure; those of
            the verdict's figures are in `verdict` too.
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
    model: Model,
    *,
    coordinates: Coordinates = _OF_FEATURES,
    rows: Rows | None = None,
    performances: Sequence[Performance] = (),
    positions: float = 1,
    tolerances: Tolerances = _USUAL,
    on_step: Callable[[int, int], None] = lambda _done, _total: None,
) -> Diagnosis:
    """Diagnose a model from its moments on disjoint folds of a probe.

    Folds should be alike (as a rule, samples dealt out at random to ten folds), because the
    intervals come from a delete-a-group jackknife over them.

    Args:
        folds: Sums over disjoint sets of samples; empty ones are ignored.
        model: What else is known about the model.
        coordinates: Coordinate systems of the sums.
        rows: Single rows, for NC4 and the compression curve.
        performances: Performance sums over the rows of each fold; none without targets.
        positions: Rows per sample, on average. Moments count rows, and inner products average over
            them; but the positions of one image or sentence are alike and no independent evidence,
            so the amount of data is judged in samples.
        tolerances: Which directions of the outputs count.
        on_step: Called with the number of steps done and their total; for large problems, all steps
            take about equally long.

    Raises:
        TooFewSamplesError: Fewer than 10 samples, or fewer than 2 folds hold any.
        NonFiniteError: Features, outputs or targets are too large to be squared in float64.
        DegenerateFeaturesError: All features are zero on all samples.
        IncompatibleShapesError: The folds come from different models or probes.
    """
    folds = [fold for fold in folds if fold.n]
    total = _total(folds, positions)
    samples = round(total.n / positions)
    setting = Setting.of(total, model, coordinates, tolerances)
    # One step for each of two spectra, for each fold, and for the single rows.
    steps = Steps(on_step, 2 + len(folds) + 1)
    entire = _subject(total, setting, samples, steps)
    figures = measured(entire, setting)
    if not entire.spectra.centered.pairs.rank:
        del figures["effective_rank"]
    left_out = LeftOut(total, entire, setting).of(folds, figures["verdict"], steps)
    sizes = [fold.n for fold in folds]
    found = intervals(figures, left_out, sizes, setting.sizes(int(entire.directions)))
    if rows is not None and setting.basis is not None:
        rows = replace(rows, features=rows.features.double() @ setting.basis)
    # Rows may be a part of all; at most one per sample is certainly independent.
    trials = 0 if rows is None else min(samples, len(rows.features))
    nc4 = None
    if setting.has_classes:
        nc4, found["neural_collapse"]["nc4_mismatch"] = _nearest_means(total, folds, rows, trials)
    compression = () if rows is None else compress(entire, rows, setting.space)
    steps.advance()
    projections = filled(Projections, figures["projections"])
    return Diagnosis(
        n=total.n,
        eigenvectors=_of_features(entire.spectra.raw.pairs, setting.basis),
        centered_eigenvectors=_of_features(entire.spectra.centered.pairs, setting.basis),
        spectrum=_spectrum(entire.spectra, figures),
        projections=projections,
        centered_projections=filled(Projections, figures["projections.centered"]),
        effective_rank=_filled_if_there(EffectiveRank, figures, "effective_rank"),
        uncentered_effective_rank=filled(EffectiveRank, figures["effective_rank.uncentered"]),
        alignment=filled(Alignment, figures["alignment"]),
        verdict=judge(
            filled(Minimality, figures["verdict"]),
            found["verdict"],
            _circumstances(total, entire, setting, model, positions),
        ),
        evidence=gather(
            projections,
            [performance for performance in performances if performance.n],
            folds,
            task=model.task,
            positions=positions,
            quality_interval=found["projections"]["quality_at_dim_target"],
        ),
        neural_collapse=_filled_if_there(NeuralCollapse, figures, "neural_collapse"),
        nc4=nc4,
        compression=compression,
        trials=trials,
        confidence_interval=found,
    )


def _circumstances(
    total: Moments, entire: Subject, setting: Setting, model: Model, positions: float
) -> Circumstances:
    has_labels = model.task != "regression" and total.d > 0
    return Circumstances(
        n=round(total.n / positions),
        p=setting.features,
        outputs=setting.space.outputs,
        directions=int(entire.directions),
        feature_rank=entire.spectra.centered.pairs.rank,
        class_counts=total.y_count.cpu().numpy() if has_labels else None,
        classes=model.classes if setting.has_classes else None,
        exclusive=model.task == "classification",
        positions=positions,
        effective_n=total.effective_n / positions if total.is_weighted else None,
        rounded_from=_first_rounded(entire.spectra.raw.pairs, model.precision),
    )


def _subject(total: Moments, setting: Setting, samples: int, steps: Steps) -> Subject:
    """Diagonalize the inner products of all samples."""
    raw = total.averages()
    centered = raw.centered()
    found = spectra(raw, centered, setting.features, steps)
    if not found.raw.pairs.rank:
        raise DegenerateFeaturesError(
            f"All {setting.features} features are zero on all {samples} samples. Either every unit "
            "is dead, or the probe is not scaled as the model was trained."
        )
    learned = setting.learned(centered)
    r = int(learned.basis.dimension)
    directions = _directions(raw, centered, found.centered.pairs, r, setting.basis)
    return Subject(raw, centered, learned, found, raw.n.new_tensor(float(directions)))


def _nearest_means(
    total: Moments, folds: Sequence[Moments], rows: Rows | None, trials: int
) -> tuple[float | None, Interval | None]:
    """Return NC4 and its interval; None without rows, or without decisions."""
    if rows is None or rows.answers is None:
        return None, None
    nc4, left_out = nearest_mean_mismatches(total, folds, rows.features, rows.answers)
    sizes = [fold.n for fold in folds]
    return nc4, unbiased_share_interval(nc4, left_out, sizes, trials)


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
    """Return the first k whose eigenvalue may be rounding of the features; None if none is."""
    if precision is None:
        return None
    above = int((pairs.eigenvalues > precision**2 * pairs.eigenvalues[0]).sum())
    return above + 1 if above < pairs.rank else None


def _of_features(pairs: Eigenpairs, basis: Tensor | None) -> np.ndarray:
    vectors = pairs.eigenvectors if basis is None else oriented(basis @ pairs.eigenvectors)
    found: np.ndarray = vectors.cpu().numpy()
    return found


def _filled_if_there(group: type[Group], figures: Mapping[str, Values], part: str) -> Group | None:
    return filled(group, figures[part]) if part in figures else None


def _directions(
    raw: Averages, centered: Averages, pairs: Eigenpairs, r: int, basis: Tensor | None
) -> int:
    """Return how many independent directions the features could use.

    This is their rank, with one exception. Where training itself has collapsed the features of a
    wide layer onto fewer than 2r directions, as exact neural collapse does, the rank says nothing
    about the room there was. The number of units that vary then takes its place, as far as the
    samples can tell these units apart.
    """
    if not pairs.rank < THRESHOLDS.min_rank_ratio * r:
        return pairs.rank
    mean, variance = raw.phi, centered.phi_phi.diagonal()
    rounding = 0.0
    if basis is not None:
        # Variances are taken from the eigenpairs, which leave out rounding of the sums: the basis
        # would spread it to units that do not vary. Entries of the basis are known to about q·eps.
        mean = basis @ mean
        variance = (basis @ pairs.eigenvectors).square() @ pairs.eigenvalues
        rounding = (basis.shape[1] * _FLOAT64_EPS) ** 2 * float(pairs.eigenvalues.sum())
    noise = centered.phi_noise * mean.square() / mean.square().sum().clamp(min=1e-300)
    varying = int((variance > noise + rounding).sum())
    width = min(varying, int(raw.n) - 1)
    return width if THRESHOLDS.min_rank_ratio * r <= width else pairs.rank


def _spectrum(spectra: Pair, figures: Mapping[str, Values]) -> Spectrum:
    raw, centered = (each.pairs.eigenvalues for each in spectra)
    of_centered = filled(
        CenteredSpectrum,
        figures["spectrum.centered"],
        eigenvalues=centered.cpu().numpy(),
        relative=(centered / centered[:1]).cpu().numpy(),
    )
    return filled(
        Spectrum,
        figures["spectrum"],
        eigenvalues=raw.cpu().numpy(),
        relative=(raw / raw[:1]).cpu().numpy(),
        centered=of_centered,
    )
