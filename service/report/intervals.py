"""Parts of the report that hold 95 % intervals, each beside the figures it is about.

Those of the figures that the verdict rests on are in `report_verdict`.
An interval is null where its figure is undefined, on all samples or without some fold of them.
"""

from typing import Annotated

from service.report.parts import Interval, Part, figure


class AlignmentIntervals(Part):
    """95 % intervals of the alignments."""

    d_lr: Annotated[Interval | None, figure("alignment.confidence_interval.d_lr")]
    cka_target: Annotated[Interval | None, figure("alignment.confidence_interval.cka_target")]
    cka_outputs: Annotated[Interval | None, figure("alignment.confidence_interval.cka_outputs")]


class SpectrumIntervals(Part):
    """95 % intervals of trace and rank."""

    trace: Annotated[Interval | None, figure("spectrum.confidence_interval.trace")]
    # Reports written before counts had intervals lack it; so below.
    rank: Annotated[Interval | None, figure("spectrum.confidence_interval.rank")] = None


class CenteredSpectrumIntervals(Part):
    """95 % interval of the centred rank."""

    rank: Annotated[Interval | None, figure("spectrum.centered.confidence_interval.rank")]


class CenteredProjectionsIntervals(Part):
    """95 % intervals of centred dimensions, and of the centred quality of the leading features."""

    dim_target: Annotated[
        Interval | None, figure("projections.centered.confidence_interval.dim_target")
    ] = None
    dim_learned: Annotated[
        Interval | None, figure("projections.centered.confidence_interval.dim_learned")
    ] = None
    quality_at_dim_target: Annotated[
        Interval | None, figure("projections.centered.confidence_interval.quality_at_dim_target")
    ]


class ProjectionsIntervals(Part):
    """95 % intervals of dimensions, and of the quality of the leading features."""

    dim_target: Annotated[Interval | None, figure("projections.confidence_interval.dim_target")] = (
        None
    )
    dim_learned: Annotated[
        Interval | None, figure("projections.confidence_interval.dim_learned")
    ] = None
    quality_at_dim_target: Annotated[
        Interval | None, figure("projections.confidence_interval.quality_at_dim_target")
    ]


class EffectiveRankIntervals(Part):
    """95 % intervals of the effective ranks of the centred spectrum."""

    participation_ratio: Annotated[
        Interval | None, figure("effective_rank.confidence_interval.participation_ratio")
    ]
    entropy: Annotated[Interval | None, figure("effective_rank.confidence_interval.entropy")]
    rankme: Annotated[Interval | None, figure("effective_rank.confidence_interval.rankme")]
    stable: Annotated[Interval | None, figure("effective_rank.confidence_interval.stable")]


class UncenteredEffectiveRankIntervals(Part):
    """95 % intervals of the effective ranks of the spectrum as given."""

    participation_ratio: Annotated[
        Interval | None, figure("effective_rank.uncentered.confidence_interval.participation_ratio")
    ]
    entropy: Annotated[
        Interval | None, figure("effective_rank.uncentered.confidence_interval.entropy")
    ]
    rankme: Annotated[
        Interval | None, figure("effective_rank.uncentered.confidence_interval.rankme")
    ]
    stable: Annotated[
        Interval | None, figure("effective_rank.uncentered.confidence_interval.stable")
    ]


class NeuralCollapseIntervals(Part):
    """95 % intervals of the figures of neural collapse."""

    nc1: Annotated[Interval | None, figure("neural_collapse.confidence_interval.nc1")]
    nc1_quotient: Annotated[
        Interval | None, figure("neural_collapse.confidence_interval.nc1_quotient")
    ]
    nc2_equinorm_means: Annotated[
        Interval | None, figure("neural_collapse.confidence_interval.nc2_equinorm_means")
    ]
    nc2_equiangle_means: Annotated[
        Interval | None, figure("neural_collapse.confidence_interval.nc2_equiangle_means")
    ]
    nc2_etf_means: Annotated[
        Interval | None, figure("neural_collapse.confidence_interval.nc2_etf_means")
    ]
    nc3: Annotated[Interval | None, figure("neural_collapse.confidence_interval.nc3")]
    nc4_mismatch: Annotated[
        Interval | None, figure("neural_collapse.confidence_interval.nc4_mismatch")
    ]


class PerformanceIntervals(Part):
    """95 % intervals of the figures of the answers."""

    accuracy: Annotated[Interval | None, figure("performance.confidence_interval.accuracy")]
    loss: Annotated[Interval | None, figure("performance.confidence_interval.loss")]
    # Reports written before there were several labels a sample lack these.
    subset_accuracy: Annotated[
        Interval | None, figure("performance.confidence_interval.subset_accuracy")
    ] = None
    average_precision: Annotated[
        Interval | None, figure("performance.confidence_interval.average_precision")
    ] = None
