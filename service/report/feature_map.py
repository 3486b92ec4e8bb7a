"""What a report says of where the features were found."""

from typing import Annotated

from pydantic import Field

from service.report.card import FEWEST_DIRECTIONS, PAPER, MetricCard
from service.report.figures import Figure, Part
from service.report.parts import Count, Name, NonNegative, Positive, Sentence, Sentences

_P = MetricCard(
    title="Width of the feature map",
    definition="Number of features: inputs of the final linear layer.",
    formula="p, with f(x) = W Φ(x) + b and Φ: X → R^p",
    range="≥ 1",
    reading=f"Room for features. Below {FEWEST_DIRECTIONS} the verdict does not apply.",
    failure_modes=(
        "Dead and duplicated units count; the rank of the spectrum does not count them."
    ),
    reference=f"{PAPER}, §2",
)
_POSITIONS = MetricCard(
    title="Positions",
    definition="Answers that the model gives for each sample, such as one per pixel or token.",
    formula="rows of Φ / n",
    range="≥ 1; 1 for a model with one answer a sample",
    reading=(
        "Above 1 every figure averages over all positions of all samples; whether there are "
        "enough samples for a verdict is judged by samples, and folds hold whole samples."
    ),
    failure_modes=(
        "Positions of one sample are alike, so they add weight and hardly any evidence."
    ),
    reference="Phiscope",
)
_OUTPUTS = MetricCard(
    title="Outputs",
    definition="Number of outputs of the final linear layer.",
    formula="C, the rows of W",
    range="≥ 0",
    reading=(
        "Classes, for a classifier with one logit each. 0: the model returns features alone, "
        "and all that outputs would show is null."
    ),
    failure_modes="A binary classifier may have one output or two.",
    reference=f"{PAPER}, §2",
)
_WEIGHTS_SHAPE = MetricCard(
    title="Shape of the head's weights",
    definition="Outputs and features of the final linear layer.",
    formula="(C, p)",
    range="two numbers ≥ 1",
    reading="Shows that the right layer was found.",
    failure_modes="None.",
    reference="Phiscope",
)
_WEIGHTS_NORM = MetricCard(
    title="Norm of the head's weights",
    definition="Frobenius norm of the final linear layer's weights.",
    formula="‖W‖_F",
    range="≥ 0",
    reading="Zero: the outputs do not depend on the features at all.",
    failure_modes=("Trades off against the scale of the features; no figure to compare models by."),
    reference="Phiscope",
)
_CONSISTENCY_RESIDUAL = MetricCard(
    title="Consistency residual",
    definition="How exactly the outputs are the linear map of the features that was found.",
    formula="max over batches of ‖ΦWᵀ + b − u‖ / ‖u − ū‖",
    range="≥ 0; null if features were declared and are not fewer than the samples",
    reading="Rounding size is good: 4e-7 in float32, 2e-4 in float16. Larger ones are refused.",
    failure_modes=(
        "Reduced precision and quantized heads raise it without anything being wrong. For "
        "features that the model's owner declared it is the residual of the best linear layer, "
        "and large where the outputs are no linear function of them."
    ),
    reference="Phiscope",
)


class HeadWeights(Part):
    """The weights of the final linear layer, in brief."""

    shape: Annotated[tuple[Positive, Positive], Figure(_WEIGHTS_SHAPE)]
    norm: Annotated[NonNegative, Figure(_WEIGHTS_NORM)]


class FeatureMap(Part):
    """Where the features were found, and how exactly the outputs follow from them."""

    location: Annotated[Sentence, Field(description="Where in the model the head was found.")]
    kind: Annotated[Name, Field(description="Operation of the head, such as linear or conv1x1.")]
    p: Annotated[Positive, Figure(_P)]
    # Reports written before there were dense models lack it.
    positions: Annotated[Positive, Figure(_POSITIONS)] = 1
    outputs: Annotated[Count, Figure(_OUTPUTS)]
    bias: Annotated[bool, Field(description="Whether the head adds a bias.")]
    link: Annotated[
        Name,
        Field(
            description="What the model does to the head's outputs, such as identity or softmax."
        ),
    ]
    # Reports written before figures were of the model's answer lack it.
    answer: Annotated[
        Name | None,
        Field(
            description="What the model's answer shows itself to be, which accuracy and loss "
            "follow from: logits, probabilities or log-probabilities (of classes, or of each "
            "output), decisions (0 and 1), signed scores (decided at 0), scores (none of these: "
            "only which is largest counts), values, or unknown: no result of the model is known to "
            "be its answer, so it has no accuracy and no loss."
        ),
    ] = None
    output: Annotated[
        Name | None,
        Field(description="Which of several results was taken; null if there is one only."),
    ]
    verified: Annotated[
        bool,
        Field(
            description="Whether every batch proved that the model's answer follows from these "
            "features through this layer; false for what the model's owner chose unproved."
        ),
    ]
    weights: HeadWeights | None
    consistency_residual: Annotated[NonNegative | None, Figure(_CONSISTENCY_RESIDUAL)]
    warnings: Annotated[Sentences, Field(description="What to mind about how Φ was found.")]
