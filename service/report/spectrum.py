"""The report's part about the spectrum of the features."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from service.report.card import PAPER, MetricCard, centered, interval, interval_of_the_tail
from service.report.figures import Figure, Intervals, Part, with_intervals
from service.report.parts import Count, Eigenvalues, Positive, Shares, require_length

EIGENVALUES = MetricCard(
    title="Eigenvalues of the features",
    definition=(
        "Strength of each eigenfunction of the feature operator T: how much of the features' "
        "mean square lies along it. Decreasing, and complete up to the numerical rank."
    ),
    formula="T = Σ_k |Φ_k⟩⟨Φ_k|, T e_k = ρ_k e_k; ρ_k = S_k² with Φ/√n = U S Vᵀ",
    range="> 0, in units of the features squared",
    reading=(
        "A few large values followed by a cliff mean few, strong features; a slow decay means "
        "many weak ones. Absolute size says nothing: compare `spectrum.relative`."
    ),
    failure_modes=(
        "With ReLU features the first eigenfunction is close to a constant and dwarfs the "
        "rest; the centred spectrum shows what varies. Trailing values are biased when n is "
        "below p."
    ),
    reference=f"{PAPER}, §2",
)
RELATIVE = MetricCard(
    title="Relative eigenvalues",
    definition="Each eigenvalue as a share of the first.",
    formula="ρ_k / ρ_1",
    range="(0, 1], decreasing from 1",
    reading=(
        "Comparable between models. A minimal network drops sharply after as many values as "
        "its outputs need; gradient descent learns along feature k at a rate in proportion to "
        "it."
    ),
    failure_modes=(
        "Uncentred, the first value is mostly the mean, which makes all others look small."
    ),
    reference=f"{PAPER}, §2",
)
RANK = MetricCard(
    title="Numerical rank of the features",
    definition="Number of eigenfunctions that stand out from float32 rounding.",
    formula="#{k : S_k > S_1 · p · eps(float32)}",
    range="1 … min(n, p); 0 when centred features do not vary",
    reading=(
        "The directions the layer really uses. Far below p: dead or duplicated units, a "
        "bottleneck upstream, or features that have collapsed onto the classes."
    ),
    failure_modes=(
        "It cannot exceed the number of samples. Features in half precision round a thousand "
        "times coarser: a warning says from which k on."
    ),
    reference="Golub, Van Loan: Matrix Computations, §5.4",
)
_TRACE = MetricCard(
    title="Trace of the feature operator",
    definition="Mean squared norm of the feature vector over the probe.",
    formula="Σ_k ρ_k = (1/n) Σ_i ‖Φ(x_i)‖²",
    range="> 0, in units of the features squared",
    reading="The scale of the features, to turn eigenvalues into shares of the whole.",
    failure_modes="Depends on the layer's scale, which a following layer can undo; compare shares.",
    reference=f"{PAPER}, §2",
)


# Reports written before every part had intervals lack them; so in other parts.
@with_intervals()
class CenteredSpectrum(Part):
    """Spectrum of the features without their mean over the samples."""

    eigenvalues: Annotated[Eigenvalues, Figure(centered(EIGENVALUES))]
    relative: Annotated[Shares, Figure(centered(RELATIVE))]
    rank: Annotated[Count, Figure(centered(RANK), interval_of_the_tail)]
    confidence_interval: Intervals | None = None

    @model_validator(mode="after")
    def _as_long_as_the_rank(self) -> Self:
        require_length(self.rank, eigenvalues=self.eigenvalues, relative=self.relative)
        return self


@with_intervals(later={"rank"})
class Spectrum(Part):
    """Spectrum of the feature operator."""

    eigenvalues: Annotated[Eigenvalues, Figure(EIGENVALUES)]
    relative: Annotated[Shares, Figure(RELATIVE)]
    trace: Annotated[float, Field(gt=0), Figure(_TRACE, interval)]
    rank: Annotated[Positive, Figure(RANK, interval_of_the_tail)]
    centered: CenteredSpectrum
    confidence_interval: Intervals | None = None

    @model_validator(mode="after")
    def _as_long_as_the_rank(self) -> Self:
        require_length(self.rank, eigenvalues=self.eigenvalues, relative=self.relative)
        return self
