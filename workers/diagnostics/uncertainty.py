"""Uncertainty of the figures, from leaving out each fold of the probe in turn.

Where eigenvalues nearly coincide, single eigenfunctions are an accident of the sample. Figures that
are symmetric in the spectrum, such as trace and effective ranks, are not affected. Those that
follow the first r eigenfunctions jump if the gap after the r-th is small; eigenpairs are computed
for every fold, so that the jump shows in the interval.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from workers.diagnostics.averages import Averages, stacked
from workers.diagnostics.figures import Figure, Sizes, Values, figures_of
from workers.diagnostics.intervals import (
    Interval,
    jackknife,
    jackknife_interval,
    outwards,
    share_interval,
    upwards,
)
from workers.diagnostics.measures import GROUPS, Learned, Setting, Subject, measured
from workers.diagnostics.minimality import needed_for
from workers.diagnostics.moments import Moments
from workers.diagnostics.performance import Performance
from workers.diagnostics.spectra import (
    FEW_FEATURES,
    CenteredNeighbours,
    Pair,
    UncenteredNeighbours,
    is_near_cheaper,
    nearby,
    solved,
)
from workers.diagnostics.steps import Steps

Intervals = dict[str, dict[str, Interval | None]]
Measured = Mapping[str, Values]
Numbers = Mapping[str, Sequence[float | None]]
"""Figures by name: a number for each set of samples, None where undefined."""

# Numbers in sets of samples that are processed together: 2 MiB for each copy.
_AT_ONCE = 1 << 18
# With many features, the k figures get an interval only if they lie within this many
# eigenfunctions, or within this share of them.
_FEW_EIGENFUNCTIONS = 96
_LEADING_SHARE = 1 / 32
_K_FIGURES = ("k90_utilization", "k95_utilization")


def intervals(
    entire: Measured,
    left_out: Sequence[Mapping[str, Numbers]],
    sizes: Sequence[int],
    bounds: Sizes,
) -> Intervals:
    """Compute the 95 % interval of every figure, by part of the report and name of the figure.

    Args:
        entire: The figures of all samples.
        left_out: The figures without a fold; each entry is for several folds or for one.
        sizes: Number of samples in each fold.
        bounds: Sizes that bound figures that are counts.

    Returns:
        Intervals; None where a figure is undefined on all samples or without some fold, and, with
        fewer rows than features, for figures that the weakest eigenfunctions determine.
    """
    of_all = _by_part(entire)
    return {
        part: intervals_of(group, of_all[part], [some[part] for some in left_out], sizes, bounds)
        if part in entire
        else {}
        for part, group in GROUPS.items()
    }


def intervals_of(
    group: type, entire: Numbers, left_out: Sequence[Numbers], sizes: Sequence[int], bounds: Sizes
) -> dict[str, Interval | None]:
    """Compute the 95 % interval of every figure of a group, by name; otherwise as `intervals`."""
    tail_is_unknown = sum(sizes) < bounds.features

    def of(name: str, declared: Figure) -> Interval | None:
        if name not in entire or (declared.of_tail and tail_is_unknown):
            return None
        rests = [value for some in left_out for value in some[name]]
        return _interval(declared, entire[name][0], rests, sizes, bounds)

    return {name: of(name, declared) for name, declared in figures_of(group).items()}


def numbers_in(group: object) -> Numbers:
    """Return the declared figures of a filled group."""
    return {name: [getattr(group, name)] for name in figures_of(type(group))}


def numbers_of(group: type, values: Values) -> Numbers:
    """Return the declared figures of a group as plain numbers.

    Small tensors that are kept would fragment the memory that large ones occupy in turn.
    """
    return {
        name: [None if math.isnan(each) else each for each in values[name].reshape(-1).tolist()]
        for name in figures_of(group)
        if name in values
    }


class LeftOut:
    """Figures without each fold.

    Args:
        total: Sums over all samples.
        entire: All samples.
        setting: What the figures depend on.
    """

    def __init__(self, total: Moments, entire: Subject, setting: Setting) -> None:
        self._total = total
        self._entire = entire
        self._setting = setting

    def of(
        self, folds: Sequence[Moments], found: Values, steps: Steps
    ) -> list[Mapping[str, Numbers]]:
        """Compute the figures without each of some folds.

        Args:
            folds: Sums over disjoint sets of samples.
            found: Minimality figures of all samples.
            steps: Advanced by the number of folds done.

        Returns:
            One entry per fold, or per several folds that are processed together.
        """
        many = self._total.p > FEW_FEATURES
        statistic = self._statistic_of_many(folds[0], found) if many else None
        left_out: list[Mapping[str, Numbers]] = []
        at_once = 1 if statistic else self._at_once
        for first in range(0, len(folds), at_once):
            some = folds[first : first + at_once]
            if statistic is None:
                left_out.append(_by_part(self._of_few(some)))
            else:
                left_out += jackknife(self._total, some, lambda rest: _by_part(statistic(rest)))
            steps.advance(len(some))
        return left_out

    @property
    def _at_once(self) -> int:
        total = self._total
        return max(1, _AT_ONCE // (total.p * (total.p + total.c + total.phi_y.shape[1])))

    def _of_few(self, folds: Sequence[Moments]) -> Measured:
        """Compute figures with few features: solved in full, for several folds at once."""
        total = self._total
        raw = stacked(jackknife(total, folds, lambda rest: rest.with_classes_of(total).averages()))
        return self._measured(raw, raw.centered())

    def _statistic_of_many(self, fold: Moments, found: Values) -> Callable[[Moments], Measured]:
        """Return a function that computes figures with many features from nearby spectra."""
        features, entire = self._setting.features, self._entire
        before = entire.spectra
        targets, k = len(entire.raw.y), self._k_figures(found)
        needed = max(needed_for(int(entire.learned.basis.dimension)), targets, k)
        if not is_near_cheaper(needed, before.centered.pairs):
            return self._solved
        example = self._total.without(fold).centered_averages()
        of_centered = CenteredNeighbours(
            entire.spectra.centered, entire.centered, example, features
        )
        of_raw = UncenteredNeighbours(entire.spectra, entire.raw.phi_size)

        def statistic(rest: Moments) -> Measured:
            raw = rest.averages(reuse=True)
            size, leading = raw.phi_size, nearby(before.raw.pairs, raw, max(targets, 1))
            if leading is None:
                return self._measured(raw, raw.centered())
            centered = raw.centered(reuse=True)
            learned = self._setting.learned(centered)
            needed = max(needed_for(int(learned.basis.dimension)), targets, k)
            leading_centered = nearby(before.centered.pairs, centered, needed)
            if leading_centered is None:
                # `raw.phi_phi` now holds the centred products; adding the means restores it.
                raw.phi_phi.addr_(raw.phi, raw.phi)
                return self._measured(raw, raw.centered())
            spectrum = of_centered.near(centered, leading_centered)
            pair = Pair(of_raw.near(size, leading, spectrum), spectrum)
            return self._measured(raw, centered, pair, learned)

        return statistic

    def _solved(self, rest: Moments) -> Measured:
        raw = rest.averages()
        return self._measured(raw, raw.centered())

    def _k_figures(self, found: Values) -> int:
        """Return how many eigenpairs the k figures need, spares included, as far as affordable."""
        most = max(_FEW_EIGENFUNCTIONS, _LEADING_SHARE * self._total.p)
        counts = (float(found[name].ceil()) for name in _K_FIGURES if name in found)
        roomy = (count + max(4, count // 4) for count in counts)
        return max((int(count) for count in roomy if count <= most), default=1)

    def _measured(
        self,
        raw: Averages,
        centered: Averages,
        spectra: Pair | None = None,
        learned: Learned | None = None,
    ) -> Measured:
        """Compute the figures, with spectra solved for in full unless they are given."""
        features, entire = self._setting.features, self._entire.spectra
        if spectra is None:
            spectra = Pair(
                solved(raw, features, entire.raw.pairs),
                solved(centered, features, entire.centered.pairs),
            )
        directions = (raw.n - 1).minimum(self._entire.directions)
        learned = learned or self._setting.learned(centered)
        return measured(Subject(raw, centered, learned, spectra, directions), self._setting)


def _by_part(figures: Measured) -> Mapping[str, Numbers]:
    return {part: numbers_of(GROUPS[part], values) for part, values in figures.items()}


def performance_intervals(
    folds: Sequence[Performance], *, positions: float
) -> dict[str, Interval | None]:
    """Compute 95 % intervals of accuracy and loss, and with labels of subset accuracy, by name.

    Args:
        folds: Sums over disjoint sets of rows; whole samples are in one fold.
        positions: Rows per sample, on average.
    """
    folds = [fold for fold in folds if fold.n]
    total = sum(folds, Performance())
    rests = jackknife(total, folds, lambda rest: rest)
    sizes = [fold.n for fold in folds]
    # Decisions on the labels of one sample are alike, as those on its positions are.
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


def _interval(
    declared: Figure,
    value: float | None,
    left_out: Sequence[float | None],
    sizes: Sequence[int],
    bounds: Sizes,
) -> Interval | None:
    lowest, highest = declared.bounds(bounds)
    found = jackknife_interval(value, left_out, sizes, lowest=lowest, highest=highest)
    if declared.rounding == "outwards":
        return outwards(found)
    return upwards(value, found) if declared.rounding == "upwards" else found
