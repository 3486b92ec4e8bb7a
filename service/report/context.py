"""What a report says of its model, its probe and its making."""

import json
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, JsonValue

from service.contract.probe_spec import Task
from service.report.parts import (
    MAX_ENTRIES,
    ClassNames,
    Count,
    GivenInputs,
    Name,
    NonNegative,
    Part,
    Positive,
    Sentence,
    Sentences,
    Sha256,
    TargetName,
    figure,
)

MAX_OPTIONS_CHARACTERS = 16_384


def _plain_json(options: dict[str, JsonValue]) -> dict[str, JsonValue]:
    size = len(json.dumps(options, allow_nan=False))
    if size > MAX_OPTIONS_CHARACTERS:
        raise ValueError(f"must be at most {MAX_OPTIONS_CHARACTERS} characters of JSON, is {size}")
    return options


class ModelPart(Part):
    """The model that was analysed."""

    id: UUID
    name: Name
    sha256: Sha256
    run: Name | None
    step: Annotated[Count | None, figure("model.step")]
    parameters: Annotated[Count | None, figure("model.parameters")]


class ProbePart(Part):
    """The data that it was analysed on."""

    id: UUID
    name: Name
    version: Annotated[Positive, figure("probe.version")]
    sha256: Sha256
    n: Annotated[Positive, figure("probe.n")]
    classes: Annotated[Positive | None, figure("probe.classes")]
    class_counts: Annotated[
        Annotated[list[Count], Field(max_length=MAX_ENTRIES)] | None, figure("probe.class_counts")
    ]
    # Reports written before labels had names, and could be left out, lack both.
    class_names: ClassNames = None
    ignored: Annotated[Count | None, figure("probe.ignored")] = None
    task: Task | None
    # Reports written before this was told lack it.
    target: TargetName = None
    # Reports written before anything was inferred from the model lack both.
    inputs: GivenInputs
    notes: Annotated[
        Sentences,
        Field(
            default_factory=list,
            description="What was inferred about the probe's data, and what shows it.",
        ),
    ]


class HeadWeights(Part):
    """The weights of the final linear layer, in brief."""

    shape: Annotated[tuple[Positive, Positive], figure("feature_map.weights.shape")]
    norm: Annotated[NonNegative, figure("feature_map.weights.norm")]


class FeatureMap(Part):
    """Where the features were found, and how exactly the outputs follow from them."""

    location: Annotated[Sentence, Field(description="Where in the model the head was found.")]
    kind: Annotated[Name, Field(description="Operation of the head, such as linear or conv1x1.")]
    p: Annotated[Positive, figure("feature_map.p")]
    # Reports written before there were dense models lack it.
    positions: Annotated[Positive, figure("feature_map.positions")] = 1
    outputs: Annotated[Count, figure("feature_map.outputs")]
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
    consistency_residual: Annotated[NonNegative | None, figure("feature_map.consistency_residual")]
    warnings: Annotated[Sentences, Field(description="What to mind about how Φ was found.")]


class Versions(Part):
    """Versions of the software that computed the report."""

    phiscope: Name
    torch: Name
    numpy: Name


class Solver(Part):
    """How the eigenvalues were found."""

    method: Annotated[
        Literal["full", "dual"],
        Field(
            description="full: of the p × p sums over features; dual: of the n × n sums over "
            "their coordinates, where rows are fewer than features. Both give all eigenvalues. "
            "Intervals use the leading ones alone where these suffice, to a residual of 1e-8."
        ),
    ]
    accuracy: Annotated[NonNegative, figure("provenance.solver.accuracy")]


class Provenance(Part):
    """How the report came about: enough to compute it again."""

    versions: Versions
    device: Annotated[Name, Field(description="Where the model ran: cpu or cuda.")]
    # Reports written before there were GPUs lack it.
    device_name: Annotated[
        Name | None, Field(description="The GPU's name; null if the model ran on a CPU.")
    ] = None
    dtype: Annotated[Name, Field(description="Precision of the features as the model gave them.")]
    # Reports written before there was a choice lack it.
    solver: Solver | None = None
    seed: Annotated[Count, figure("provenance.seed")]
    options: Annotated[
        dict[str, JsonValue],
        AfterValidator(_plain_json),
        Field(description="Options of the analysis, defaults filled in."),
    ]
    timings: Annotated[
        dict[Name, Annotated[NonNegative, figure("provenance.timings.*")]], Field(max_length=64)
    ]
