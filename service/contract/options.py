"""How an analysis is to be made.

Apart from the other schemas: the process that opens uploads reads this, and nothing of a database.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Auto = Literal["auto"]
ClassWeighting = Literal["none", "balanced"]
Tolerance = Annotated[float, Field(ge=1e-9, le=0.5)]
ResultName = Annotated[str, Field(max_length=200)] | Annotated[int, Field(ge=0, le=4096)]


class FeatureMapChoice(BaseModel):
    """Where the last linear layer is, from the model's owner: where it cannot be told, or by wish.

    What the owner says is checked as far as it can be. Where the answer is not seen to follow from
    the chosen layer, the report says so: `feature_map.verified` is false.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    output: ResultName | None = Field(
        default=None,
        description="Which of several results holds the network's outputs: its name or position.",
    )
    module: Annotated[str, Field(min_length=1, max_length=400)] | None = Field(
        default=None,
        description="The last linear layer, by the name of its module: `classifier.6`.",
    )
    operation: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="The same by the number of its operation, as an inspection of the model lists "
        "them: for archives that keep no names.",
    )
    features_output: ResultName | None = Field(
        default=None,
        description="The result that holds the features themselves, one row a sample. Where the "
        "model returns nothing else, there are no outputs, and no verdict.",
    )

    @property
    def names_a_layer(self) -> bool:
        """Whether it says where the features are, not only which result is the answer."""
        return any(
            given is not None for given in (self.module, self.operation, self.features_output)
        )

    @model_validator(mode="after")
    def _is_one_choice(self) -> Self:
        given = [
            name
            for name in ("module", "operation", "features_output")
            if getattr(self, name) is not None
        ]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other; expected one of them")
        if not given and self.output is None:
            raise ValueError(
                "names nothing; expected output, module, operation or features_output, "
                'or "auto" for the whole'
            )
        return self


class Options(BaseModel):
    """How an analysis is to be made. Every key is optional."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_samples: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Use a random subset of so many samples; null for all."
    )
    batch_size: Annotated[int, Field(ge=1, le=65_536)] | Auto = Field(
        default="auto",
        description="Samples the model sees at once. auto: up to 2,048, by the size of its inputs "
        "and activations, and at most 256 if it cannot run more.",
    )
    top_k: Annotated[int, Field(ge=1, le=4096)] | Auto = Field(
        default="auto",
        description="Eigenfunctions whose values are kept as an artifact; auto keeps 2 per class.",
    )
    layers: Literal["penultimate", "all"] = Field(
        default="penultimate",
        description="all adds the spectrum of every linear and convolutional layer to the report.",
    )
    class_weighting: ClassWeighting = Field(
        default="none",
        description="balanced weighs samples by 1/n_c, so that all classes count alike in every "
        "figure but those of performance; it needs class labels. A sample with several labels "
        "weighs the mean of 1/n_c over them, and those with none are one more class.",
    )
    output_tolerance: Tolerance = Field(
        default=1e-6,
        description="Ĥ as given has the directions of the outputs whose singular value is above "
        "this share of the first.",
    )
    verdict_tolerance: Tolerance = Field(
        default=1e-3,
        description="The same for r, the dimension of the cleaned learned space that the verdict "
        "is about: raise it where faint left-over directions of the logits count as learned.",
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="Seed of everything random.")
    feature_map: FeatureMapChoice | Auto = Field(
        default="auto", description="The last linear layer; auto finds it."
    )
    eval_probe: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None,
        description="A second probe, which the eigenfunctions are judged on: its id, name (its "
        "newest version) or name@version. An analysis shows the id that this was when it began.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto",
        description="Where the model runs: cuda asks for a worker with a GPU, auto takes the GPU "
        "of whichever worker is free, if it has one. Figures are found on the CPU either way.",
    )
    # This has one value in this version. It is in the contract, so it may be said.
    shards: Auto | Literal[1] = "auto"
