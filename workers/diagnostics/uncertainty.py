"""How sure the figures are: what becomes of them with each fold of the probe left out in turn."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

from workers.diagnostics.alignment import Alignment, align
from workers.diagnostics.diagonalization import Eigenpairs, leading_eigenpairs
from workers.diagnostics.intervals import Interval, jackknife_interval
from workers.diagnostics.minimality import (
    Minimality,
    chance_corrected,
    learned_basis,
    minimality,
    needed_for,
    without_mean_output,
)
from workers.diagnostics.moments import Moments
from workers.diagnostics.performance import Task

_ROUNDING = 1e-6  # a count that no fold changes keeps an interval of that count alone
_COUNTS = ("rank", "k90_utilization", "k95_utilization", "k95_energy")

# Up to this many features a full diagonalization per fold is affordable (50 ms each). Above it the
# k figures get an interval only if they lie within this share of the eigenfunctions.
_AFFORDABLE = 512
_LEADING_SHARE = 1 / 32


@dataclass(frozen=True)
class Figures:
    """What is known with an interval, on one set of samples."""

    alignment: Alignment
    minimality: Minimality


def without_each_fold(
    folds: Sequence[Moments],
    total: Moments,
    entire: Minimality,
    pairs: Eigenpairs,
    *,
    task: Task,
    directions: int,
    output_tolerance: float,
    verdict_tolerance: float,
) -> list[Figures]:
    """The figures on all samples but one fold's, for each fold.

    Args:
        folds: Sums over disjoint sets of samples.
        total: Their sum.
        entire: Minimality on all samples; it tells how many eigenfunctions are needed.
        pairs: Centred eigenpairs of all samples, from which those of the parts are found.
        task: What the outputs are.
        directions: Independent directions that the features could use.
        output_tolerance: Directions of the outputs that count for D_LR.
        verdict_tolerance: Directions of the cleaned outputs that count for r.
    """
    found = []
    for fold in folds:
        rest = total.without(fold)
        centered = rest.centered_averages()
        cleaned = without_mean_output(centered, task)
        basis = learned_basis(cleaned, tolerance=verdict_tolerance)
        available = min(pairs.rank, rest.n - 1)
        count = min(max(needed_for(basis.shape[1]), _needed(entire, total.p)), available)
        leading = leading_eigenpairs(cleaned.phi_phi, count, near=pairs).leading(available)
        found.append(
            Figures(
                align(rest.averages(), centered, output_tolerance=output_tolerance),
                minimality(cleaned, leading, basis, directions=min(directions, rest.n - 1)),
            )
        )
    return found


def alignment_intervals(
    entire: Alignment, left_out: Sequence[Figures], sizes: Sequence[int]
) -> dict[str, Interval | None]:
    """95 % interval of D_LR and each CKA, by name."""
    return {
        name: jackknife_interval(
            getattr(entire, name),
            [getattr(part.alignment, name) for part in left_out],
            sizes,
            lowest=0.0,
            highest=1.0,
        )
        for name in (field.name for field in fields(Alignment))
    }


def minimality_intervals(
    entire: Minimality,
    left_out: Sequence[Figures],
    sizes: Sequence[int],
    *,
    directions: int,
) -> dict[str, Interval | None]:
    """95 % interval of each figure of minimality, by name; those of counts are rounded outwards."""
    worst = chance_corrected(0.0, entire.rank / directions) if directions else None
    intervals: dict[str, Interval | None] = {}
    for name in (field.name for field in fields(Minimality)):
        lowest, highest = 0.0, 1.0
        if name in _COUNTS:
            lowest, highest = 1.0, float(max(directions, 1))
        elif name == "utilization_corrected" and worst is not None:
            lowest = worst
        interval = jackknife_interval(
            getattr(entire, name),
            [getattr(part.minimality, name) for part in left_out],
            sizes,
            lowest=lowest,
            highest=highest,
        )
        if interval is not None and name in _COUNTS:
            interval = (
                float(math.floor(interval[0] + _ROUNDING)),
                float(math.ceil(interval[1] - _ROUNDING)),
            )
        intervals[name] = interval
    return intervals


def _needed(entire: Minimality, p: int) -> int:
    """How many eigenpairs the k figures need, with room to move, as far as these are affordable."""
    if p <= _AFFORDABLE:
        return p
    counts = (entire.k90_utilization, entire.k95_utilization, entire.k95_energy)
    roomy = (count + max(4, count // 4) for count in counts if count is not None)
    return max((count for count in roomy if count <= _LEADING_SHARE * p), default=1)
