"""The report's part about the model with fewer features."""

from typing import Annotated

from service.report.card import MetricCard
from service.report.figures import Figure, Part
from service.report.parts import Count, Share

_K = MetricCard(
    title="Features kept",
    definition="Number of centred eigenfunctions that the outputs are projected on.",
    formula="f_k(x) = F̄ + Σ_{j≤k} ⟨F|e_j⟩ e_j(x)",
    range="0 … centred rank",
    reading="0 always gives the mean output.",
    failure_modes="All k up to 32, then in steps of 15 %, and r, 2r and the rank.",
    reference="Phiscope",
)
_ACCURACY = MetricCard(
    title="Accuracy with k features",
    definition=(
        "Share of rows whose label is told from the first k eigenfunctions; of several labels, "
        "share of the decisions."
    ),
    formula=(
        "(1/m) #{i : argmax f_k(x_i) = y_i}, f_k what the model's link makes of the projected "
        "outputs"
    ),
    range="[0, 1]; null for regression or without targets",
    reading="Where it levels off, further features add nothing to the answers.",
    failure_modes=("Counted on all rows or the same random 10,000 for every model, not weighted."),
    reference="Phiscope",
)
_AGREEMENT = MetricCard(
    title="Answers kept with k features",
    definition=(
        "Share of rows for which the first k eigenfunctions give the model's answer; of "
        "several labels, share of the decisions."
    ),
    formula=(
        "(1/m) #{i : argmax f_k(x_i) = argmax f(x_i)}, f_k what the model's link makes of the "
        "projected outputs"
    ),
    range="[0, 1]; null for regression, and where the answers decide nothing",
    reading="The smallest k near 1 is the width that the model really needs. No labels needed.",
    failure_modes=("Counted on all rows or the same random 10,000 for every model, not weighted."),
    reference="Phiscope",
)
_OUTPUT_ERROR = MetricCard(
    title="Error of the outputs with k features",
    definition="How far the outputs are from their projection, as a share of their variation.",
    formula="‖F − P_k F‖ / ‖F − F̄‖, for a classifier without each sample's mean logit",
    range="[0, 1]",
    reading="0: nothing is lost. 1: as good as the mean output.",
    failure_modes="Weighs outputs by their size: large logits count most.",
    reference="Phiscope",
)


class CompressedModel(Part):
    """What is left of the model whose outputs are projected on its first k eigenfunctions."""

    k: Annotated[Count, Figure(_K)]
    accuracy: Annotated[Share | None, Figure(_ACCURACY)]
    agreement: Annotated[Share | None, Figure(_AGREEMENT)]
    output_error: Annotated[Share, Figure(_OUTPUT_ERROR)]
