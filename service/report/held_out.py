"""The report's part about a second probe: what the eigenfunctions of the first hold there."""

from typing import Annotated
from uuid import UUID

from pydantic import Field

from service.contract.probe_spec import Task
from service.report.parts import (
    MAX_ENTRIES,
    ClassNames,
    Count,
    Cumulative,
    GivenInputs,
    Interval,
    LossKind,
    Name,
    NonNegative,
    Part,
    Positive,
    Sentences,
    Sha256,
    Share,
    Shares,
    TargetName,
    figure,
    require_length,
)

Energies = Annotated[list[NonNegative], Field(max_length=MAX_ENTRIES)]


class EvalProbe(Part):
    """The data that the eigenfunctions were judged on."""

    id: UUID
    name: Name
    version: Annotated[Positive, figure("held_out.probe.version")]
    sha256: Sha256
    n: Annotated[Positive, figure("held_out.probe.n")]
    classes: Annotated[Positive | None, figure("held_out.probe.classes")]
    class_counts: Annotated[
        Annotated[list[Count], Field(max_length=MAX_ENTRIES)] | None,
        figure("held_out.probe.class_counts"),
    ]
    # Reports written before labels had names, and could be left out, lack both.
    class_names: ClassNames = None
    ignored: Annotated[Count | None, figure("held_out.probe.ignored")] = None
    task: Task | None
    # Reports written before this was told lack it.
    target: TargetName = None
    # Reports written before anything was inferred from the model lack both.
    inputs: GivenInputs
    notes: Annotated[
        Sentences,
        Field(
            default_factory=list,
            description="What was inferred about the eval probe's data, and what shows it.",
        ),
    ]


class CenteredHeldOutIntervals(Part):
    """95 % intervals of the centred scalars, with the eigenfunctions held fixed."""

    dim_target: Annotated[
        Interval | None, figure("held_out.centered.confidence_interval.dim_target")
    ]
    dim_learned: Annotated[
        Interval | None, figure("held_out.centered.confidence_interval.dim_learned")
    ]
    quality_at_dim_target: Annotated[
        Interval | None, figure("held_out.centered.confidence_interval.quality_at_dim_target")
    ]
    energy_outside: Annotated[
        Interval | None, figure("held_out.centered.confidence_interval.energy_outside")
    ]


class CenteredHeldOut(Part):
    """The same with the constant removed from features, outputs and targets."""

    eigenvalues: Annotated[Energies, figure("held_out.centered.eigenvalues")]
    energy_outside: Annotated[Share | None, figure("held_out.centered.energy_outside")]
    quality: Annotated[Shares | None, figure("held_out.centered.quality")]
    utilization: Annotated[Shares | None, figure("held_out.centered.utilization")]
    cumulative_quality: Annotated[Cumulative | None, figure("held_out.centered.cumulative_quality")]
    cumulative_utilization: Annotated[
        Cumulative | None, figure("held_out.centered.cumulative_utilization")
    ]
    quality_chance_level: Annotated[
        Cumulative | None, figure("held_out.centered.quality_chance_level")
    ]
    dim_target: Annotated[Count | None, figure("held_out.centered.dim_target")]
    dim_learned: Annotated[Count | None, figure("held_out.centered.dim_learned")]
    quality_at_dim_target: Annotated[
        Share | None, figure("held_out.centered.quality_at_dim_target")
    ]
    quality_at_dim_target_chance: Annotated[
        Share | None, figure("held_out.centered.quality_at_dim_target_chance")
    ]
    # Reports written before every scalar had an interval lack it; so in the part below.
    confidence_interval: CenteredHeldOutIntervals | None = None


class HeldOutMinimality(Part):
    """Whether minimality holds on the eval probe."""

    rank: Annotated[Count, figure("held_out.minimality.rank")]
    utilization: Annotated[Share | None, figure("held_out.minimality.utilization")]
    energy: Annotated[Share | None, figure("held_out.minimality.energy")]


class HeldOutIntervals(Part):
    """95 % intervals of the scalars, with the eigenfunctions held fixed."""

    dim_target: Annotated[Interval | None, figure("held_out.confidence_interval.dim_target")] = None
    dim_learned: Annotated[Interval | None, figure("held_out.confidence_interval.dim_learned")] = (
        None
    )
    rank: Annotated[Interval | None, figure("held_out.confidence_interval.rank")] = None
    quality_at_dim_target: Annotated[
        Interval | None, figure("held_out.confidence_interval.quality_at_dim_target")
    ]
    energy_outside: Annotated[
        Interval | None, figure("held_out.confidence_interval.energy_outside")
    ]
    utilization: Annotated[Interval | None, figure("held_out.confidence_interval.utilization")]
    energy: Annotated[Interval | None, figure("held_out.confidence_interval.energy")]
    accuracy: Annotated[Interval | None, figure("held_out.confidence_interval.accuracy")]
    loss: Annotated[Interval | None, figure("held_out.confidence_interval.loss")]
    subset_accuracy: Annotated[
        Interval | None, figure("held_out.confidence_interval.subset_accuracy")
    ] = None
    average_precision: Annotated[
        Interval | None, figure("held_out.confidence_interval.average_precision")
    ] = None


class HeldOutPerformance(Part):
    """How good the answers are on the eval probe."""

    accuracy: Annotated[Share | None, figure("held_out.performance.accuracy")]
    loss: Annotated[NonNegative | None, figure("held_out.performance.loss")]
    # Reports written before there were several labels a sample lack these; so below.
    loss_kind: Annotated[LossKind | None, figure("held_out.performance.loss_kind")] = None
    subset_accuracy: Annotated[Share | None, figure("held_out.performance.subset_accuracy")] = None
    average_precision: Annotated[Share | None, figure("held_out.performance.average_precision")] = (
        None
    )


class HeldOut(Part):
    """What the eigenfunctions of the probe hold on the eval probe."""

    probe: EvalProbe
    eigenvalues: Annotated[Energies, figure("held_out.eigenvalues")]
    energy_outside: Annotated[Share | None, figure("held_out.energy_outside")]
    quality: Annotated[Shares | None, figure("held_out.quality")]
    utilization: Annotated[Shares | None, figure("held_out.utilization")]
    cumulative_quality: Annotated[Cumulative | None, figure("held_out.cumulative_quality")]
    cumulative_utilization: Annotated[Cumulative | None, figure("held_out.cumulative_utilization")]
    quality_chance_level: Annotated[Cumulative | None, figure("held_out.quality_chance_level")]
    dim_target: Annotated[Count | None, figure("held_out.dim_target")]
    dim_learned: Annotated[Count | None, figure("held_out.dim_learned")]
    quality_at_dim_target: Annotated[Share | None, figure("held_out.quality_at_dim_target")]
    quality_at_dim_target_chance: Annotated[
        Share | None, figure("held_out.quality_at_dim_target_chance")
    ]
    centered: CenteredHeldOut
    minimality: HeldOutMinimality
    performance: HeldOutPerformance
    confidence_interval: HeldOutIntervals

    def require_ranks(self, rank: int, centered_rank: int) -> None:
        """Raises ValueError unless there is one entry for each eigenfunction of the probe."""
        for part, expected in ((self, rank), (self.centered, centered_rank)):
            require_length(
                expected,
                eigenvalues=part.eigenvalues,
                utilization=part.utilization,
                cumulative_utilization=part.cumulative_utilization,
                quality=part.quality,
                cumulative_quality=part.cumulative_quality,
                quality_chance_level=part.quality_chance_level,
            )
