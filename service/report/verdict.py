"""The report's verdict: regime, the figures that it rests on, and the second axis beside it."""

from typing import Annotated, Literal

from pydantic import Field

from service.report.parts import Count, Interval, Name, Part, Positive, Sentences, Share, figure


class Minimality(Part):
    """The figures that the verdict rests on."""

    rank: Annotated[Count, figure("verdict.minimality.rank")]
    utilization: Annotated[Share | None, figure("verdict.minimality.utilization")]
    utilization_corrected: Annotated[
        Annotated[float, Field(le=1)] | None, figure("verdict.minimality.utilization_corrected")
    ]
    # Reports of the rule UED-1 lack it.
    utilization_tapered: Annotated[
        Annotated[float, Field(le=1)] | None, figure("verdict.minimality.utilization_tapered")
    ] = None
    energy: Annotated[Share | None, figure("verdict.minimality.energy")]
    distance: Annotated[Share | None, figure("verdict.minimality.distance")]
    alignment: Annotated[Share | None, figure("verdict.minimality.alignment")]
    shape: Annotated[Share | None, figure("verdict.minimality.shape")]
    k90_utilization: Annotated[Positive | None, figure("verdict.minimality.k90_utilization")]
    k95_utilization: Annotated[Positive | None, figure("verdict.minimality.k95_utilization")]
    k95_energy: Annotated[Positive | None, figure("verdict.minimality.k95_energy")]


class MinimalityIntervals(Part):
    """95 % intervals of the figures of minimality."""

    rank: Annotated[Interval | None, figure("verdict.confidence_interval.rank")]
    utilization: Annotated[Interval | None, figure("verdict.confidence_interval.utilization")]
    utilization_corrected: Annotated[
        Interval | None, figure("verdict.confidence_interval.utilization_corrected")
    ]
    utilization_tapered: Annotated[
        Interval | None, figure("verdict.confidence_interval.utilization_tapered")
    ] = None
    energy: Annotated[Interval | None, figure("verdict.confidence_interval.energy")]
    distance: Annotated[Interval | None, figure("verdict.confidence_interval.distance")]
    alignment: Annotated[Interval | None, figure("verdict.confidence_interval.alignment")]
    shape: Annotated[Interval | None, figure("verdict.confidence_interval.shape")]
    k90_utilization: Annotated[
        Interval | None, figure("verdict.confidence_interval.k90_utilization")
    ]
    k95_utilization: Annotated[
        Interval | None, figure("verdict.confidence_interval.k95_utilization")
    ]
    k95_energy: Annotated[Interval | None, figure("verdict.confidence_interval.k95_energy")]


class Thresholds(Part):
    """What the figures were compared with."""

    mf_utilization: Annotated[float, figure("verdict.thresholds.mf_utilization")]
    mf_energy: Annotated[float, figure("verdict.thresholds.mf_energy")]
    mf_distance: Annotated[float, figure("verdict.thresholds.mf_distance")]
    mf_greatest_distance: Annotated[
        float | None, figure("verdict.thresholds.mf_greatest_distance")
    ] = None
    ef_utilization: Annotated[float, figure("verdict.thresholds.ef_utilization")]
    ef_energy: Annotated[float, figure("verdict.thresholds.ef_energy")]
    ef_distance: Annotated[float, figure("verdict.thresholds.ef_distance")]
    ef_certain_distance: Annotated[
        float | None, figure("verdict.thresholds.ef_certain_distance")
    ] = None
    min_samples: Annotated[Count, figure("verdict.thresholds.min_samples")]
    min_samples_per_dimension: Annotated[
        Count, figure("verdict.thresholds.min_samples_per_dimension")
    ]
    min_rank_share: Annotated[float, figure("verdict.thresholds.min_rank_share")]
    min_rank_ratio: Annotated[float, figure("verdict.thresholds.min_rank_ratio")]
    warn_samples: Annotated[Count, figure("verdict.thresholds.warn_samples")]
    warn_imbalance: Annotated[float, figure("verdict.thresholds.warn_imbalance")]
    warn_saturation: Annotated[float, figure("verdict.thresholds.warn_saturation")]
    poor_quality: Annotated[float, figure("verdict.thresholds.poor_quality")]
    # Reports written before the second axis had a place of its own lack these two.
    good_quality: Annotated[float | None, figure("verdict.thresholds.good_quality")] = None
    accurate_skill: Annotated[float | None, figure("verdict.thresholds.accurate_skill")] = None


class AssessmentIntervals(Part):
    """95 % intervals of the figures of the second axis."""

    quality: Annotated[Interval | None, figure("verdict.assessment.confidence_interval.quality")]
    quality_corrected: Annotated[
        Interval | None, figure("verdict.assessment.confidence_interval.quality_corrected")
    ]
    skill: Annotated[Interval | None, figure("verdict.assessment.confidence_interval.skill")]
    k99_agreement: Annotated[
        Interval | None, figure("verdict.assessment.confidence_interval.k99_agreement")
    ]


class Assessment(Part):
    """The second axis: how good the features and the answers are. It never enters the regime."""

    summary: Annotated[
        Literal[
            "minimal and good",
            "minimal but poor",
            "extended but accurate",
            "extended and inaccurate",
        ]
        | None,
        figure("verdict.assessment.summary"),
    ]
    quality: Annotated[Share | None, figure("verdict.assessment.quality")]
    quality_chance: Annotated[Share | None, figure("verdict.assessment.quality_chance")]
    quality_corrected: Annotated[
        Annotated[float, Field(le=1)] | None, figure("verdict.assessment.quality_corrected")
    ]
    skill: Annotated[Annotated[float, Field(le=1)] | None, figure("verdict.assessment.skill")]
    held_out: Annotated[bool, Field(description="Whether the figures are of the held-out probe.")]
    k99_agreement: Annotated[Count | None, figure("verdict.assessment.k99_agreement")]
    # Reports written before the second axis had intervals lack it.
    confidence_interval: AssessmentIntervals | None = None


class Verdict(Part):
    """MF or EF, and why."""

    regime: Annotated[Literal["MF", "EF", "undetermined"], figure("verdict.regime")]
    rule: Annotated[Name, Field(description="Version of the rule that decided.")]
    minimality: Minimality
    confidence_interval: MinimalityIntervals
    reasons: Annotated[Sentences, Field(min_length=1, description="Why, with figures.")]
    thresholds: Thresholds
    warnings: Annotated[Sentences, Field(description="What to mind when reading the figures.")]
    assessment: Annotated[
        Assessment | None, Field(description="The second axis beside the regime.")
    ] = None
