"""Looking into a model without data: what a worker is asked, and what it may find."""

import math
import re
from typing import Annotated, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
)

from service.contract.failures import Failure

MAX_CANDIDATES = 50
MAX_OUTPUTS = 64
MAX_ARGUMENTS = 64
_MAX_AXES = 16
_MAX_ELEMENTS = 1 << 24

InputDtype = Literal[
    "float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"
]
_INPUT = re.compile(r"([0-9]{1,9}(?:x[0-9]{1,9})*)(?::(\w+))?")
_SIZE = "[1-9][0-9]{0,7}"
_DTYPES = "|".join(get_args(InputDtype))
INPUT_PATTERN = f"^{_SIZE}(x{_SIZE}){{0,{_MAX_AXES - 1}}}(:({_DTYPES}))?$"
"""What is refused at a glance; of what matches, too large a sample is refused as well."""

ShortText = Annotated[str, Field(max_length=320)]
LongText = Annotated[str, Field(max_length=4000)]
Axes = Annotated[list[NonNegativeInt], Field(max_length=64)]


class InputShape(BaseModel):
    """What one sample of one input looks like."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    shape: Annotated[list[PositiveInt], Field(max_length=_MAX_AXES)] = Field(
        description="Of one sample; empty for one number a sample."
    )
    dtype: InputDtype = "float32"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `3x32x32` or `128:int64`.

        Raises:
            ValueError: It is written otherwise, or out of range.
        """
        match = _INPUT.fullmatch(text)
        if match is None:
            raise ValueError(
                "expected the sizes of one sample's axes, without the batch axis, joined by x, and "
                "after a colon the dtype unless it is float32: 3x32x32, 64, 128:int64"
            )
        sizes, dtype = match.groups(default="float32")
        if dtype not in get_args(InputDtype):
            raise ValueError(f"expected one of the dtypes {', '.join(get_args(InputDtype))}")
        shape = [int(size) for size in sizes.split("x")]
        if 0 in shape or len(shape) > _MAX_AXES:
            raise ValueError(f"expected 1 to {_MAX_AXES} axes, and no size of 0")
        if math.prod(shape) > _MAX_ELEMENTS:
            raise ValueError(f"expected a sample of at most {_MAX_ELEMENTS} values")
        return cls.model_validate({"shape": shape, "dtype": dtype})


class InspectionRequest(BaseModel):
    """What a worker is asked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    inputs: list[InputShape] | None = Field(
        description="What the model's inputs look like; null: find out."
    )


class _Found(BaseModel):
    """Part of what a worker found. Strict, since the program that wrote it may be hostile."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Input(_Found):
    """One argument of the model's `forward`."""

    name: ShortText
    type: ShortText = Field(description="As TorchScript writes it: `Tensor`, `Optional[Tensor]`.")
    default: ShortText | None = Field(description="The default value; null if it must be given.")
    shape: Axes | None = Field(
        description="Shape of one sample in the run; null if the argument was left out."
    )
    dtype: ShortText | None
    origin: Literal["declared", "exported", "traced", "guessed"] | None = Field(
        description="Where the shape is from: the request, the archive (torch.export and "
        "torch.jit.trace record it), or a guess that the model accepted."
    )


class Output(_Found):
    """One float tensor that the model returns."""

    label: ShortText = Field(
        description="Its place in a tuple or dictionary, as `0` or `head.logits`; empty for the "
        "only one."
    )
    shape: Annotated[list[NonNegativeInt | None], Field(max_length=64)] = Field(
        description="null stands for the number of samples."
    )
    dtype: ShortText
    head: ShortText | None = Field(
        description="Location of the linear layer that it comes from; null if there is none."
    )
    link: ShortText | None = Field(
        description="The function f = link(u) of that layer's outputs u: `identity`, `softmax`, …"
    )


class Candidate(_Found):
    """A linear operation that could be the head."""

    location: ShortText = Field(
        description="Name of its weight, or the operation where weights have no names."
    )
    operation: ShortText
    number: PositiveInt = Field(
        description="Which operation of the run it is, from 1: `operation` of an analysis' "
        "`feature_map` option."
    )
    kind: ShortText | None = Field(
        description="`linear`, `conv1x1`, `conv3x3`, …; null if it is no plain linear layer, such "
        "as a convolution in groups."
    )
    features: NonNegativeInt | None = Field(description="Number of features p; null likewise.")
    outputs: NonNegativeInt | None = Field(description="Number of outputs C; null likewise.")
    taken: bool
    reason: LongText = Field(description="Why it is the head, or why it is not.")


class Findings(_Found):
    """What an inspection found."""

    parameters: NonNegativeInt
    operations: NonNegativeInt = Field(description="Operations in one run of the model.")
    inputs: Annotated[list[Input], Field(max_length=MAX_ARGUMENTS)]
    outputs: Annotated[list[Output], Field(max_length=MAX_OUTPUTS)]
    head: ShortText | None = Field(
        description="Location of the last linear layer, the one an analysis takes; null if it "
        "would refuse the model."
    )
    candidates: Annotated[list[Candidate], Field(max_length=MAX_CANDIDATES)] = Field(
        description=f"The last {MAX_CANDIDATES} linear operations, in the order they ran."
    )
    candidates_total: NonNegativeInt = Field(description="How many there are in all.")
    refusal: Failure | None = Field(
        description="Why an analysis would refuse the model; null if it would not."
    )
    warnings: Annotated[list[LongText], Field(max_length=16)]
