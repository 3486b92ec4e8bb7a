"""The report's part about the answers."""

from typing import Annotated, Literal

from service.report.card import MetricCard, interval, interval_of_a_share
from service.report.figures import Figure, Intervals, Part, with_intervals
from service.report.parts import NonNegative, Share

LossKind = Literal["cross_entropy", "binary_cross_entropy", "squared_error"]

_ACCURACY = MetricCard(
    title="Accuracy",
    definition=(
        "Share of samples, or of positions, whose class the model's answer f names; of several "
        "labels a sample, share of all decisions about labels that are right."
    ),
    formula=(
        "(1/n) #{i : argmax f(x_i) = y_i}, over all positions of all samples; a single output "
        "names class 1 above t. (1/nL) #{i, l : [f_l(x_i) ≥ t] = y_il} of L labels. t is 1/2 "
        "of probabilities, 0 of logits"
    ),
    range=(
        "[0, 1]; null for regression, without targets, and where t of a single output or of "
        "labels cannot be told"
    ),
    reading=(
        "Chance is the share of the largest class. It never enters the verdict. f is the "
        "model's answer: what `feature_map.link` makes of the last linear layer's outputs u."
    ),
    failure_modes=(
        "Hides poor classes under imbalance, and rare labels altogether; on training data it "
        "shows memory. Where `feature_map.verified` is false, u is taken for f."
    ),
    reference="Phiscope",
)
_LOSS = MetricCard(
    title="Loss",
    definition=(
        "Mean loss of the model's answer f, in nats but for regression; `loss_kind` says which."
    ),
    formula=(
        "cross_entropy: −(1/n) Σ_i ln p(x_i)_{y_i}, p = softmax(u) or f. binary_cross_entropy: "
        "−(1/nL) Σ_il [y_il ln p_l(x_i) + (1 − y_il) ln(1 − p_l(x_i))], p = sigmoid(u) or f. "
        "squared_error: (1/nC) Σ ‖f(x_i) − y_i‖²"
    ),
    range="≥ 0; null without targets, and where f is fit for none of these losses",
    reading=("Lower is better. Guessing costs ln C, or ln 2 of labels and of a single output."),
    failure_modes=(
        "A few confident mistakes dominate it: a probability of 0 counts as the smallest "
        "number of full precision in f's dtype (87 nats in float32), unless f is exactly a "
        "softmax or sigmoid of u, which is followed to the end. It is not the loss used in "
        "training."
    ),
    reference="Phiscope",
)
_LOSS_KIND = MetricCard(
    title="Kind of loss",
    definition="Which loss the model's answer f is fit for, by what f shows itself to be.",
    formula=(
        "cross_entropy: f over classes is logits, or probabilities that sum to one, or their "
        "logarithms. binary_cross_entropy: a single f, or one for each label or class, is a "
        "logit, or a probability, or its logarithm. squared_error: regression"
    ),
    range="cross_entropy, binary_cross_entropy, squared_error; null where there is no loss",
    reading=(
        "Compare losses of one kind only. The link is tried on outputs from −1000 to 1000: f "
        "is taken for logits if it is u, or rises or falls throughout, past −10 and past 10."
    ),
    failure_modes=(
        "null for f such as tanh(u) or |u|, which is no distribution over classes, and where "
        "it is not known how f follows from u and its rows do not sum to one; "
        "`feature_map.answer` says what f is."
    ),
    reference="Phiscope",
)
_SUBSET_ACCURACY = MetricCard(
    title="Subset accuracy",
    definition="Share of samples with every label right.",
    formula="(1/n) #{i : [f_l(x_i) ≥ t] = y_il for all l}",
    range="[0, 1]; null unless samples may have several labels",
    reading="At most `accuracy`. 1: not a label is wrong or missing.",
    failure_modes="Falls with the number of labels, however good each of them is.",
    reference="Tsoumakas, Katakis: Int. J. Data Warehousing and Mining 3 (2007)",
)
_AVERAGE_PRECISION = MetricCard(
    title="Average precision (macro)",
    definition=(
        "How well the answer f of each label ranks the samples that have it, on average over "
        "labels; labels that no sample has are left out."
    ),
    formula="mean over l of Σ_t (R_t − R_{t−1}) P_t, t the distinct values of f_l, falling",
    range="[0, 1]; null unless samples may have several labels",
    reading=(
        "Chance is the mean share of samples that have a label. It needs no decision, so it "
        "shows rare labels that accuracy hides."
    ),
    failure_modes=(
        "Computed exactly on all samples, or on the same random 10,000 for every model, since "
        "it follows from their order and not from sums. Noisy for labels of a handful of "
        "samples."
    ),
    reference="Everingham et al.: IJCV 88 (2010); as scikit-learn's average_precision_score",
)


class Answers(Part):
    """How good the answers are, on either probe."""

    accuracy: Annotated[Share | None, Figure(_ACCURACY, interval_of_a_share)]
    loss: Annotated[NonNegative | None, Figure(_LOSS, interval)]
    # Reports written before there were several labels a sample lack these.
    loss_kind: Annotated[LossKind | None, Figure(_LOSS_KIND)] = None
    subset_accuracy: Annotated[Share | None, Figure(_SUBSET_ACCURACY, interval_of_a_share)] = None
    average_precision: Annotated[Share | None, Figure(_AVERAGE_PRECISION, interval)] = None


@with_intervals()
class Performance(Answers):
    """How good the answers are."""

    confidence_interval: Intervals | None = None
