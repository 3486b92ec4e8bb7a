"""The report's part about projections of the eigenfunctions on target and learned functions."""

from typing import Annotated

from service.contract.rule import THRESHOLDS
from service.report.card import PAPER, MetricCard, centered, interval
from service.report.figures import Figure, Intervals, Part, twin, with_intervals
from service.report.parts import Count, Cumulative, Share, Shares

QUALITY = MetricCard(
    title="Quality of each feature",
    definition="Share of an eigenfunction that lies in the space of the target functions.",
    formula="Q*_k = ‖P_{H*} e_k‖²",
    range="[0, 1]; null without targets",
    reading=(
        "1: the feature is made of the target. 0: it has nothing to do with it. Good networks "
        "have high quality in their strongest features."
    ),
    failure_modes=(
        "On training data it is high for memorised labels too; use a probe the model has not "
        "seen. Where eigenvalues nearly coincide only the sum over the group means something."
    ),
    reference=f"{PAPER}, §2",
)
UTILIZATION = MetricCard(
    title="Utilization of each feature",
    definition="Share of an eigenfunction that lies in the space of the model's outputs.",
    formula="Q̂_k = ‖P_Ĥ e_k‖²",
    range="[0, 1]",
    reading=(
        "1: the last layer uses the feature fully. 0: the feature exists and is ignored. In a "
        "minimal network the first few are near 1 and the rest near 0. Null without outputs."
    ),
    failure_modes=(
        "The space counts directions, not their size, so a faint left-over direction of the "
        "logits weighs as much as a class; the verdict cleans it first."
    ),
    reference=f"{PAPER}, §2",
)
CUMULATIVE_QUALITY = MetricCard(
    title="Cumulative quality",
    definition="Share of the target space that the first k eigenfunctions hold together.",
    formula="Π*(k) = (1/dim H*) Σ_{j≤k} Q*_j",
    range="[0, 1], never decreasing; null without targets",
    reading=(
        "Good if it is near 1 at k = dim H*, and well above `quality_chance_level`. The value "
        "at the last k is what any linear readout of these features could reach."
    ),
    failure_modes="Rises to 1 for any target at all once k nears the number of samples.",
    reference=f"{PAPER}, §2",
)
CUMULATIVE_UTILIZATION = MetricCard(
    title="Cumulative utilization",
    definition="Share of the learned space that the first k eigenfunctions hold together.",
    formula="Π̂(k) = (1/dim Ĥ) Σ_{j≤k} Q̂_j",
    range="[0, 1], never decreasing",
    reading="The earlier it reaches 1, the fewer features the model really uses.",
    failure_modes=(
        "Uncentred it may stay below 1, because a bias can add a constant that the features lack."
    ),
    reference=f"{PAPER}, §2",
)
QUALITY_CHANCE_LEVEL = MetricCard(
    title="Chance level of the cumulative quality",
    definition="What Π*(k) would be on average if the targets were shuffled among the samples.",
    formula=(
        "Σ_{j≤k} [t·a_j + (1 − a_j)(dim H* − t)/(n − 1)] / dim H*, a_j = ⟨e_j|1⟩², t = ‖P_{H*}1‖²"
    ),
    range="[0, 1], never decreasing; null without targets",
    reading="Quality at this level is no quality. Judge Π*(k) by how far it stands above.",
    failure_modes=(
        "An average over shuffles: single shuffles scatter around it on small probes. Labels "
        "per position are shuffled singly, so smooth label maps reach more by chance alone. "
        "Of several labels a sample, weighted, it is about a fifth too low."
    ),
    reference="Exact average over all permutations; for k = rank about [1 + (C − 1)·rank/n]/C",
)
DIM_TARGET = MetricCard(
    title="Dimension of the target space",
    definition="Number of independent target functions on the probe.",
    formula="dim H* = dim span{y_1 … y_d}",
    range="≥ 0; the number of classes present, for classification; null without targets",
    reading="How many features the task needs at least. One less once the constant is removed.",
    failure_modes="Classes without a sample in the probe are not counted.",
    reference=f"{PAPER}, §2",
)
DIM_LEARNED = MetricCard(
    title="Dimension of the learned space",
    definition="Number of independent outputs on the probe.",
    formula="dim Ĥ = #{i : s_i(F) > 1e-6 · s_1(F)}",
    range="0 … number of outputs",
    reading=("How many functions the model computes. Fewer than outputs: some outputs are copies."),
    failure_modes=("With nearly dependent logits it depends on the tolerance, which is an option."),
    reference=f"{PAPER}, §2",
)
QUALITY_AT_DIM_TARGET = MetricCard(
    title="Quality of the leading features, Π*(C)",
    definition=(
        "Share of the target in as many leading eigenfunctions as the task needs at least."
    ),
    formula="Π*(dim H*)",
    range="[0, 1]; null without targets",
    reading=(
        "The second axis beside the regime: are the strongest features the right ones? 0.7 and "
        "more is good on unseen MNIST images, 0.35 is what random features give there."
    ),
    failure_modes=(
        "Includes the constant, which is worth 1/C to everyone: read it against its chance "
        "level. Depends on how hard the task is, so compare models on one probe only."
    ),
    reference=f"{PAPER}, §2",
)
QUALITY_AT_DIM_TARGET_CHANCE = MetricCard(
    title="Chance level of Π*(C)",
    definition="What Π*(C) would be on average if the targets were shuffled among the samples.",
    formula="quality_chance_level at k = dim H*",
    range="[0, 1]; null without targets",
    reading=(
        "“Minimal but poor” is said where Π*(C) stands less than "
        f"{100 * THRESHOLDS.poor_quality:g} % of the way above it."
    ),
    failure_modes="An average over shuffles, as `quality_chance_level`.",
    reference="Exact average over all permutations of the targets",
)


class EigenfunctionProjections(Part):
    """How eigenfunctions lie to the target functions and to the learned ones."""

    quality: Annotated[Shares | None, Figure(QUALITY)]
    utilization: Annotated[Shares | None, Figure(UTILIZATION)]
    cumulative_quality: Annotated[Cumulative | None, Figure(CUMULATIVE_QUALITY)]
    cumulative_utilization: Annotated[Cumulative | None, Figure(CUMULATIVE_UTILIZATION)]
    quality_chance_level: Annotated[Cumulative | None, Figure(QUALITY_CHANCE_LEVEL)]
    dim_target: Annotated[Count | None, Figure(DIM_TARGET, interval)]
    dim_learned: Annotated[Count | None, Figure(DIM_LEARNED, interval)]
    quality_at_dim_target: Annotated[Share | None, Figure(QUALITY_AT_DIM_TARGET, interval)]
    quality_at_dim_target_chance: Annotated[Share | None, Figure(QUALITY_AT_DIM_TARGET_CHANCE)]


@with_intervals(later={"dim_target", "dim_learned"})
@twin(centered)
class CenteredProjections(EigenfunctionProjections):
    """Projections with the constant removed from features, outputs and targets."""

    confidence_interval: Intervals | None = None


@with_intervals(later={"dim_target", "dim_learned"})
class Projections(EigenfunctionProjections):
    """How the eigenfunctions lie to the target functions and to the learned ones."""

    centered: CenteredProjections
    confidence_interval: Intervals | None = None
