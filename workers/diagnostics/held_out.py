"""Held-out figures: eigenfunctions from one probe, integrals over another."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import NamedTuple

import torch

from workers.diagnostics.averages import Averages
from workers.diagnostics.evidence import Evidence, gather
from workers.diagnostics.figures import (
    Sizes,
    counted_outputs,
    figure,
    share,
)
from workers.diagnostics.held_out_projections import (
    HeldOutFunctions,
    HeldOutProjections,
    energy_outside,
    project_held_out,
)
from workers.diagnostics.held_out_sums import HeldOutSums, PartSums
from workers.diagnostics.intervals import Interval, jackknife
from workers.diagnostics.minimality import learned_basis, without_mean_output
from workers.diagnostics.performance import Performance
from workers.diagnostics.uncertainty import Numbers, intervals_of, numbers_in, performance_intervals


@dataclass(frozen=True)
class HeldOutMinimality:
    """Whether minimality holds on the second probe.

    Attributes:
        rank: r, the dimension of the cleaned learned space there.
        utilization: U, the share of that space in the span of the first r centred eigenfunctions,
            in [0, 1]; None if r is 0 or if all of these eigenfunctions are constant there.
        energy: E, the share of the centred feature variance in these eigenfunctions, in [0, 1];
            None in the same cases.
    """

    rank: int = figure(counted_outputs, rounding="outwards")
    utilization: float | None = figure(share)
    energy: float | None = figure(share)


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Figures of a model's eigenfunctions on a second probe.

    Attributes:
        projections: Uncentred projections.
        centered_projections: Projections of the centred eigenfunctions, with the constant removed
            from Φ, F and Y.
        minimality: Rank, utilization and energy of the cleaned learned space.
        performance: Correct answers and loss there; None without targets.
        evidence: Quality of features and answers there, for the second axis.
        confidence_interval: 95 % interval of each scalar, by name, from folds of the second probe.
            The eigenfunctions are held fixed.
        centered_confidence_interval: The same for the centred projections.
    """

    projections: HeldOutProjections
    centered_projections: HeldOutProjections
    minimality: HeldOutMinimality
    performance: Performance | None
    evidence: Evidence
    confidence_interval: dict[str, Interval | None]
    centered_confidence_interval: dict[str, Interval | None]


@torch.inference_mode()
def held_out(
    sums: HeldOutSums, *, output_tolerance: float = 1e-6, verdict_tolerance: float = 1e-3
) -> HeldOut:
    """Judge the eigenfunctions of one probe on another.

    Args:
        sums: Sums over the second probe, in coordinates of the first probe's eigenvectors.
        output_tolerance: `dim Ĥ` counts singular values of the outputs above this share of the
            first.
        verdict_tolerance: The same for r, the rank of the cleaned outputs.

    Raises:
        NonFiniteError: The features are too large for their squares.
    """
    parts = sums.parts()
    total = reduce(add, parts)
    intervals, centered_intervals = _intervals(
        sums, total, parts, output_tolerance, verdict_tolerance
    )
    performances = [part.performance for part in parts if part.performance is not None]
    interval = {
        **intervals,
        **performance_intervals(performances, positions=sums.positions),
    }
    projections = project_held_out(
        sums.uncentered.averages(),
        energy=total.energy / total.leading.weight,
        noise=total.noise,
        output_tolerance=output_tolerance,
    )
    return HeldOut(
        projections=projections,
        centered_projections=project_held_out(
            _coordinates(sums.centered.centered_averages(), slice(0, sums.centered_rank)),
            energy=total.variance,
            noise=total.noise,
            output_tolerance=output_tolerance,
        ),
        minimality=_minimality(sums, total, verdict_tolerance),
        performance=total.performance,
        evidence=gather(
            projections,
            performances,
            [part.leading for part in parts],
            task=sums.task,
            positions=sums.positions,
            quality_interval=interval["quality_at_dim_target"],
            held_out=True,
        ),
        confidence_interval=interval,
        centered_confidence_interval=centered_intervals,
    )


def _minimality(sums: HeldOutSums, part: PartSums, tolerance: float) -> HeldOutMinimality:
    """Compute U and E of the cleaned learned space from sums over some of the samples."""
    centered = _coordinates(part.leading.centered_averages(), slice(sums.leading, None))
    cleaned = without_mean_output(centered, sums.task, sums.space)
    basis = learned_basis(cleaned, tolerance=tolerance).coefficients
    r = basis.shape[1]
    functions = HeldOutFunctions(_coordinates(cleaned, slice(0, r)), part.noise)
    if not bool(functions.norms.any()):
        return HeldOutMinimality(rank=r, utilization=None, energy=None)
    inner = functions.in_order(functions.inner(cleaned.phi_f[:r] @ basis))
    return HeldOutMinimality(
        rank=r,
        utilization=min(float(inner.square().sum()) / r, 1.0),
        energy=min(float(functions.energy.sum()) / part.variance, 1.0),
    )


def _leading(
    sums: HeldOutSums, part: PartSums, tolerance: float
) -> tuple[HeldOutProjections, HeldOutProjections]:
    """Project the leading eigenfunctions, uncentred and centred, the only ones that folds keep.

    They suffice for those figures of the projections that have an interval.
    """
    last = sums.leading + sums.centered_leading
    uncentered = project_held_out(
        _coordinates(part.leading.averages(), slice(0, sums.leading)),
        energy=part.energy / part.leading.weight,
        noise=part.noise,
        output_tolerance=tolerance,
    )
    centered = project_held_out(
        _coordinates(part.leading.centered_averages(), slice(sums.leading, last)),
        energy=part.variance,
        noise=part.noise,
        output_tolerance=tolerance,
    )
    return (
        replace(uncentered, energy_outside=energy_outside(part.inside, part.energy, 0.0)),
        replace(
            centered,
            energy_outside=energy_outside(part.variance_inside, part.variance, part.noise),
        ),
    )


class _Scalars(NamedTuple):
    """Figures that have an interval, computed from some of the samples."""

    uncentered: Numbers
    centered: Numbers
    minimality: Numbers


def _intervals(
    sums: HeldOutSums,
    total: PartSums,
    parts: Sequence[PartSums],
    output_tolerance: float,
    verdict_tolerance: float,
) -> tuple[dict[str, Interval | None], dict[str, Interval | None]]:
    """Return 95 % intervals by name: uncentred figures and minimality, then centred figures."""

    def statistic(part: PartSums) -> _Scalars:
        uncentered, centered = _leading(sums, part, output_tolerance)
        return _Scalars(
            numbers_in(uncentered),
            numbers_in(centered),
            numbers_in(_minimality(sums, part, verdict_tolerance)),
        )

    entire, left_out = statistic(total), jackknife(total, parts, statistic)
    sizes = [part.leading.n for part in parts]
    p, outputs = sums.uncentered.p, sums.space.outputs
    # With fewer samples than features, tail figures get no interval; no figure here is one.
    bounds = Sizes(features=p, directions=p, targets=sums.uncentered.d, outputs=outputs)
    uncentered, centered, minimal = (
        intervals_of(group, points, rests, sizes, bounds)
        for group, points, rests in zip(
            (HeldOutProjections, HeldOutProjections, HeldOutMinimality),
            entire,
            zip(*left_out, strict=True),
            strict=True,
        )
    )
    return {**uncentered, **minimal}, centered


def _coordinates(averages: Averages, chosen: slice) -> Averages:
    """Return the inner products of the chosen coordinates only."""
    return replace(
        averages,
        phi=averages.phi[chosen],
        phi_phi=averages.phi_phi[chosen, chosen],
        phi_f=averages.phi_f[chosen],
        phi_y=averages.phi_y[chosen],
    )
