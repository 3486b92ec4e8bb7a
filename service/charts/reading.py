"""What the charts read of a report.

Reports outlive versions, and are kept as they were written. So this asks for no more than what is
drawn, does not mind what else there is, and takes what only some versions write as optional.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Interval = tuple[float, float]


class _Drawn(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Model(_Drawn):
    """The model that was analysed."""

    name: str
    run: str | None
    step: int | None


class Probe(_Drawn):
    """The data that it was analysed on."""

    name: str
    version: int
    n: int


class CenteredSpectrum(_Drawn):
    """`ρ_k/ρ_1` of the features without their mean, decreasing; empty if they do not vary."""

    relative: list[float]


class Spectrum(_Drawn):
    """`ρ_k/ρ_1` of the features as given, decreasing."""

    relative: list[float]
    centered: CenteredSpectrum


class CenteredProjections(_Drawn):
    """Cumulative projections, one entry an eigenfunction; some need targets, some outputs."""

    cumulative_utilization: list[float] | None
    cumulative_quality: list[float] | None
    quality_chance_level: list[float] | None


class Projections(_Drawn):
    """The part of the projections that is drawn."""

    centered: CenteredProjections


class Minimality(_Drawn):
    """The figures that the verdict rests on."""

    rank: int
    utilization_corrected: float | None
    utilization_tapered: float | None = None
    energy: float | None
    distance: float | None


class Intervals(_Drawn):
    """Their 95 % intervals."""

    utilization_corrected: Interval | None
    utilization_tapered: Interval | None = None
    energy: Interval | None
    distance: Interval | None


class Thresholds(_Drawn):
    """What they were compared with."""

    mf_utilization: float
    mf_energy: float
    mf_distance: float
    ef_utilization: float
    ef_energy: float
    ef_distance: float
    ef_certain_distance: float | None = None


class Assessment(_Drawn):
    """The second axis, in words."""

    summary: str | None


class Verdict(_Drawn):
    """MF or EF, and why."""

    regime: Literal["MF", "EF", "undetermined"]
    rule: str
    minimality: Minimality
    confidence_interval: Intervals
    reasons: list[str]
    thresholds: Thresholds
    assessment: Assessment | None = None


class CompressionPoint(_Drawn):
    """What is left of a model whose outputs are projected on the first `k` eigenfunctions."""

    k: int
    accuracy: float | None = None
    agreement: float | None = None
    output_error: float | None = None


class LayerRankInterval(_Drawn):
    """Its 95 % interval."""

    participation_ratio: Interval | None


class LayerEffectiveRank(_Drawn):
    """Effective rank of a layer's centred spectrum."""

    participation_ratio: float
    confidence_interval: LayerRankInterval | None = None


class LayerInterval(_Drawn):
    """95 % interval of a layer's D_LR."""

    d_lr: Interval | None


class Layer(_Drawn):
    """One execution of a layer."""

    name: str
    effective_rank: LayerEffectiveRank | None
    d_lr: float | None
    confidence_interval: LayerInterval | None = None


class Drawable(_Drawn):
    """A report, as far as it is drawn."""

    model: Model
    probe: Probe
    spectrum: Spectrum
    projections: Projections
    verdict: Verdict
    compression: list[CompressionPoint] | None = None
    layers: list[Layer] | None = None
