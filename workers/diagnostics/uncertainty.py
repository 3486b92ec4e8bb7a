"""How sure the figures are: what becomes of each with each fold of the probe left out in turn.

Counts are smoothed where they can be: leaving out a fold would seldom move a whole number, and an
interval of no width held the truth in few samples.

Where eigenvalues nearly coincide, single eigenfunctions are an accident of the sample. Figures that
are symmetric in the spectrum, such as trace and effective ranks, do not notice. Those that follow
the first r eigenfunctions jump where the gap after the r-th is small; every fold's own eigenpairs
are found, so that the jump shows in the interval.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from torch import Tensor

from workers.diagnostics.alignment import Alignment, align
from workers.diagnostics.averages import Averages
from workers.diagnostics.diagonalization import (
    Eigenpairs,
    leading_eigenpairs,
    leading_eigenvalues,
    numerical_rank,
)
from workers.diagnostics.intervals import (
    Interval,
    jackknife_interval,
    outwards,
    share_interval,
    upwards,
)
from workers.diagnostics.minimality import (
    Minimality,
    Reaches,
    learned_basis,
    minimality,
    needed_for,
    reaches,
    without_mean_output,
)
from workers.diagnostics.moments import Moments
from workers.diagnostics.neural_collapse import NeuralCollapse, neural_collapse
from workers.diagnostics.output_space import OutputSpace
from workers.diagnostics.performance import Performance, Task
from workers.diagnostics.projections import Projections, project
from workers.diagnostics.ranks import TAIL_RANKS, EffectiveRank, effective_rank

Scalars = Mapping[str, float | None]
Intervals = dict[str, dict[str, Interval | None]]

_K_FIGURES = ("k90_utilization", "k95_utilization", "k95_energy")
_COUNTS = ("rank", "dim_target", "dim_learned")
# What the weakest eigenfunctions decide: of fewer samples than features they are not known at all.
_OF_THE_TAIL = (
    *("verdict.k95_energy", "spectrum.rank", "spectrum.centered.rank"),
    *(f"effective_rank{part}.{name}" for part in ("", ".uncentered") for name in TAIL_RANKS),
)
_OF_PROJECTIONS = ("dim_target", "dim_learned", "quality_at_dim_target")

# Up to this many features a full diagonalization per fold is affordable (50 ms each). Above it the
# k figures get an interval only if they lie within this share of the eigenfunctions.
_AFFORDABLE = 512
_LEADING_SHARE = 1 / 32


@dataclass(frozen=True)
class Figures:
    """Every figure of the moments that has an interval, on one set of samples.

    Attributes:
        minimality: Of the cleaned learned space.
        reaches: What its k figures are, before they are rounded up.
        alignment: D_LR and CKA.
        effective_rank: Of the centred spectrum; None if the features are constant.
        uncentered_effective_rank: Of the spectrum as given.
        trace: Of the spectrum as given.
        rank, centered_rank: Numerical ranks, as given and centred.
        projections, centered_projections: As given and centred.
        neural_collapse: None unless there are classes.
    """

    minimality: Minimality
    reaches: Reaches
    alignment: Alignment
    effective_rank: EffectiveRank | None
    uncentered_effective_rank: EffectiveRank | None
    trace: float
    rank: int
    centered_rank: int
    projections: Projections
    centered_projections: Projections
    neural_collapse: NeuralCollapse | None

    def scalars(self) -> dict[str, Scalars]:
        """The figures by part and name of the report."""
        return {
            "verdict": {**_named(self.minimality), **_named(self.reaches)},
            "alignment": _named(self.alignment),
            "effective_rank": _named(self.effective_rank),
            "effective_rank.uncentered": _named(self.uncentered_effective_rank),
            "spectrum": {"trace": self.trace, "rank": self.rank},
            "spectrum.centered": {"rank": self.centered_rank},
            "projections": _some(self.projections, _OF_PROJECTIONS),
            "projections.centered": _some(self.centered_projections, _OF_PROJECTIONS),
            "neural_collapse": _named(self.neural_collapse),
        }


@dataclass(frozen=True)
class Setting:
    """What the figures without a fold are computed with, and where to start from.

    Attributes:
        pairs, centered_pairs: Eigenpairs of all samples.
        task: What the outputs are.
        head: Weights of the final linear layer `(c, p)`; None if they are not known.
        basis: `(p, q)` where the moments are of coordinates in it; None: of the features.
        space: Whose coordinates the outputs of the moments are.
        features: p.
        directions: Independent directions that the features could use.
        output_tolerance: Directions of the outputs that count for D_LR.
        verdict_tolerance: Directions of the cleaned outputs that count for r.
    """

    pairs: Eigenpairs
    centered_pairs: Eigenpairs
    task: Task
    head: Tensor | None
    basis: Tensor | None
    space: OutputSpace
    features: int
    directions: int
    output_tolerance: float
    verdict_tolerance: float


def intervals(
    entire: Figures, folds: Sequence[Moments], total: Moments, setting: Setting
) -> Intervals:
    """95 % interval of every figure, by part and name of the report.

    Args:
        entire: The figures on all samples.
        folds: Sums over disjoint sets of samples.
        total: Their sum.
        setting: How the figures were computed.

    Returns:
        Intervals; None where the figure is undefined, on all samples or without some fold, and for
        what the weakest eigenfunctions decide where there are fewer rows than features.
    """
    left_out = [
        _figures(total.without(fold), entire.minimality, setting).scalars() for fold in folds
    ]
    sizes = [fold.n for fold in folds]
    ranges = _ranges(setting, total)
    found: Intervals = {}
    for part, scalars in entire.scalars().items():
        found[part] = {}
        for name, value in scalars.items():
            if total.n < setting.features and f"{part}.{name}" in _OF_THE_TAIL:
                found[part][name] = None
                continue
            lowest, highest = ranges.get(f"{part}.{name}", ranges[part])
            interval = jackknife_interval(
                value,
                [rest[part].get(name) for rest in left_out],
                sizes,
                lowest=lowest,
                highest=highest,
            )
            if name in _COUNTS:
                interval = outwards(interval)
            elif name in _K_FIGURES:
                interval = upwards(value, interval)
            found[part][name] = interval
    return found


def performance_intervals(
    folds: Sequence[Performance], *, positions: float
) -> dict[str, Interval | None]:
    """95 % interval of accuracy and loss, and of subset accuracy where there are labels, by name.

    Args:
        folds: Sums over disjoint sets of rows; whole samples are in one fold.
        positions: Rows a sample, on average.
    """
    folds = [fold for fold in folds if fold.n]
    total = sum(folds, Performance())
    rests = [sum(folds[:j] + folds[j + 1 :], Performance()) for j in range(len(folds))]
    sizes = [fold.n for fold in folds]
    # The labels of one sample are alike, as its positions are.
    labels = 1 if total.decisions is None else total.decisions // total.n
    found = {
        "accuracy": share_interval(
            total.accuracy,
            [rest.accuracy for rest in rests],
            [labels * size for size in sizes],
            positions=labels * positions,
        ),
        "loss": jackknife_interval(total.loss, [rest.loss for rest in rests], sizes, lowest=0.0),
    }
    if total.labels is not None:
        found["subset_accuracy"] = share_interval(
            total.labels.subset_accuracy,
            [None if rest.labels is None else rest.labels.subset_accuracy for rest in rests],
            sizes,
        )
    return found


def _figures(rest: Moments, entire: Minimality, setting: Setting) -> Figures:
    """The figures on all samples but a fold's."""
    raw, centered = rest.averages(), rest.centered_averages()
    cleaned = without_mean_output(centered, setting.task, setting.space)
    basis = learned_basis(cleaned, tolerance=setting.verdict_tolerance)
    pairs = _pairs(raw.phi_phi, rest.d, setting.pairs, rest.n)
    needed = max(needed_for(basis.shape[1]), rest.d, _needed(entire, rest.p))
    centered_pairs = _pairs(centered.phi_phi, needed, setting.centered_pairs, rest.n - 1)
    eigenvalues = _eigenvalues(raw.phi_phi, pairs, setting.pairs, rest.n)
    centered_eigenvalues = _eigenvalues(
        centered.phi_phi, centered_pairs, setting.centered_pairs, rest.n - 1
    )
    projections, centered_projections = (
        project(averages, found, output_tolerance=setting.output_tolerance)
        for averages, found in ((raw, pairs), (centered, centered_pairs))
    )
    reached = reaches(cleaned, centered_pairs, basis)
    directions = min(setting.directions, rest.n - 1)
    return Figures(
        minimality=minimality(cleaned, centered_pairs, basis, reached, directions=directions),
        reaches=reached,
        alignment=align(raw, centered, output_tolerance=setting.output_tolerance),
        effective_rank=effective_rank(centered_eigenvalues),
        uncentered_effective_rank=effective_rank(eigenvalues),
        trace=float(raw.phi_phi.trace()),
        rank=_rank(eigenvalues, raw, setting),
        centered_rank=_rank(centered_eigenvalues, centered, setting),
        projections=projections,
        centered_projections=centered_projections,
        neural_collapse=neural_collapse(rest, setting.head, basis=setting.basis)
        if setting.task == "classification" and rest.d
        else None,
    )


def _pairs(gram: Tensor, needed: int, near: Eigenpairs, most: int) -> Eigenpairs:
    """All eigenpairs where that is affordable, else at least the first that are needed."""
    p = gram.shape[0]
    available = min(near.rank, most)
    count = min(p if p <= _AFFORDABLE else max(needed, 1), available)
    return leading_eigenpairs(gram, count, near=near).leading(available)


def _eigenvalues(gram: Tensor, found: Eigenpairs, near: Eigenpairs, most: int) -> Tensor:
    """All eigenvalues that are positive, in decreasing order."""
    available = min(near.rank, most)
    if gram.shape[0] <= _AFFORDABLE or found.rank >= available:
        return found.eigenvalues
    return leading_eigenvalues(gram, available)


def _rank(eigenvalues: Tensor, averages: Averages, setting: Setting) -> int:
    if not eigenvalues.shape[0]:
        return 0
    return numerical_rank(
        eigenvalues, features=setting.features, rows=averages.n, noise=averages.phi_noise
    )


def _needed(entire: Minimality, p: int) -> int:
    """How many eigenpairs the k figures need, with room to move, as far as these are affordable."""
    counts = (entire.k90_utilization, entire.k95_utilization, entire.k95_energy)
    roomy = (count + max(4, count // 4) for count in counts if count is not None)
    return max((count for count in roomy if count <= _LEADING_SHARE * p), default=1)


def _ranges(setting: Setting, total: Moments) -> dict[str, tuple[float, float]]:
    """Range of the figures of each part, and by full name of those that differ from it."""
    share, positive, rank = (0.0, 1.0), (0.0, math.inf), (1.0, float(setting.features))
    most = float(max(setting.directions, 1))
    dimensions = {
        "dim_target": (0.0, float(total.d)),
        "dim_learned": (0.0, float(setting.space.outputs)),
    }
    return {
        "verdict": share,
        "verdict.utilization_corrected": (-math.inf, 1.0),
        "verdict.utilization_tapered": (-math.inf, 1.0),
        **{f"verdict.{name}": (1.0, most) for name in ("rank", *_K_FIGURES)},
        "alignment": share,
        "effective_rank": rank,
        "effective_rank.uncentered": rank,
        "spectrum": positive,
        **dict.fromkeys(("spectrum.rank", "spectrum.centered"), (0.0, float(setting.features))),
        "projections": share,
        "projections.centered": share,
        **{f"projections.{name}": bounds for name, bounds in dimensions.items()},
        **{f"projections.centered.{name}": bounds for name, bounds in dimensions.items()},
        "neural_collapse": positive,
    }


def _named(
    figures: Minimality | Reaches | Alignment | EffectiveRank | NeuralCollapse | None,
) -> dict[str, float | None]:
    if figures is None:
        return {}
    return _some(figures, [field.name for field in fields(figures)])


def _some(figures: object, names: Sequence[str]) -> dict[str, float | None]:
    return {name: getattr(figures, name) for name in names}
