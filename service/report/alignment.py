"""The report's part about the alignment of features with what they are used for."""

from typing import Annotated

from service.report.card import PAPER, MetricCard, interval
from service.report.figures import Figure, Intervals, Part, with_intervals
from service.report.parts import Share

_D_LR = MetricCard(
    title="Low-rank measure D_LR",
    definition=(
        "Distance of the feature operator from the minimal one, which holds the constant and "
        "the learned functions and nothing else."
    ),
    formula="D_LR = 1 − CKA(T, a_1|1⟩⟨1| + a_2 P_Ĥ)",
    range="[0, 1]; null if features or outputs do not vary",
    reading=(
        "0: minimal, rich learning. Towards 1: lazy. Trained image classifiers mostly "
        "reach 0.03 to 0.2, features as initialised 0.2 to 0.7."
    ),
    failure_modes=(
        "Between 0.15 and 0.40 it mixes both regimes: it also punishes learned features of "
        "unequal strength. It separates only the extremes, so the verdict does not rest on it."
    ),
    reference=f"{PAPER}, and its later version (ICLR 2026)",
)
_CKA_TARGET = MetricCard(
    title="Alignment of features and targets",
    definition="Linear centred kernel alignment of features and targets.",
    formula="‖Φ_cᵀY_c‖²_F / (‖Φ_cᵀΦ_c‖_F ‖Y_cᵀY_c‖_F)",
    range="[0, 1]; null without targets, or if one side does not vary",
    reading=(
        "1: features are the targets up to rotation and scale. Higher is better on unseen data."
    ),
    failure_modes=("Ruled by the strongest directions; biased upwards when n is not much above p."),
    reference="Kornblith, Norouzi, Lee, Hinton: ICML (2019)",
)
_CKA_OUTPUTS = MetricCard(
    title="Alignment of features and outputs",
    definition="Linear centred kernel alignment of features and outputs.",
    formula="‖Φ_cᵀF_c‖²_F / (‖Φ_cᵀΦ_c‖_F ‖F_cᵀF_c‖_F)",
    range="[0, 1]; null if one side does not vary",
    reading="Near 1: the features vary as the outputs do, and hold little that is not used.",
    failure_modes="Ruled by the strongest directions, weak ones hardly count.",
    reference="Kornblith, Norouzi, Lee, Hinton: ICML (2019)",
)


class Alignments(Part):
    """Alignments of features, those of Φ or of another layer."""

    d_lr: Annotated[Share | None, Figure(_D_LR, interval)]
    cka_target: Annotated[Share | None, Figure(_CKA_TARGET, interval)]
    cka_outputs: Annotated[Share | None, Figure(_CKA_OUTPUTS, interval)]


@with_intervals()
class Alignment(Alignments):
    """Centred kernel alignment of features with the minimal operator, targets and outputs."""

    confidence_interval: Intervals
