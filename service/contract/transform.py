"""What is done to the arrays of a probe before a model gets them."""

import re
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

TransformDtype = Literal[
    "float16", "bfloat16", "float32", "float64", "int64", "int32", "uint8", "bool"
]

_LAYOUT = re.compile(r"(N[A-Z]*)->(N[A-Z]*)")
# A spec travels in a message of at most 64 KiB.
MAX_CHANNELS = 1024

PerChannel = Annotated[list[FiniteFloat], Field(min_length=1, max_length=MAX_CHANNELS)]
PositiveFloat = Annotated[FiniteFloat, Field(gt=0)]

_FRACTION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)/(\d{1,9}(?:\.\d{1,9})?)")


def _read_fraction(value: object) -> object:
    """Turn a fraction in words into its number; 1/255 has no short decimal form."""
    if value == 0:
        raise ValueError("scale is 0, which makes all inputs 0; expected another factor")
    if not isinstance(value, str):
        return value
    match = _FRACTION.fullmatch(value.replace(" ", ""))
    if match is None or not float(match[2]):
        raise ValueError(f"scale is {value!r}; expected a number, or a fraction such as '1/255'")
    return _read_fraction(float(match[1]) / float(match[2]))


Factor = Annotated[
    FiniteFloat,
    BeforeValidator(_read_fraction, json_schema_input_type=FiniteFloat | str),
]


class WritesWhatWasSet(BaseModel):
    """A model whose JSON holds the keys that were given, so that it reads back as it was meant.

    A key left out asks for inference; a key given as null is an answer.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_serializer(mode="wrap")
    def _omit_unset(self, handler: SerializerFunctionWrapHandler):  # type: ignore[no-untyped-def]  # noqa: ANN202 - a return annotation would replace the fields in the JSON Schema
        return {key: value for key, value in handler(self).items() if key in self.model_fields_set}


class Transform(WritesWhatWasSet):
    """What is done to the stored inputs, in this order: layout, dtype, x·scale, (x − mean)/std.

    An empty transform leaves the inputs as they are stored.
    """

    layout: str | None = Field(
        default=None,
        description="A permutation of the axes, samples (N) first: `NHWC->NCHW`.",
        max_length=40,
    )
    dtype: TransformDtype | None = Field(default=None, description="Convert to this type.")
    scale: Factor | None = Field(
        default=None,
        description="Multiply by this factor: a number, or a fraction such as `1/255`.",
    )
    mean: PerChannel | None = Field(
        default=None, description="Subtract: one value for all, or one per channel."
    )
    std: Annotated[list[PositiveFloat], Field(min_length=1, max_length=MAX_CHANNELS)] | None = (
        Field(default=None, description="Divide by: one value for all, or one per channel.")
    )

    @field_validator("layout")
    @classmethod
    def _is_permutation(cls, layout: str | None) -> str | None:
        if layout is None:
            return None
        match = _LAYOUT.fullmatch(layout)
        if match is None:
            raise ValueError(
                f"layout is {layout!r}; expected two lists of axis letters that begin with N, "
                "such as 'NHWC->NCHW'"
            )
        stored, wanted = match.groups()
        if len(set(stored)) != len(stored) or sorted(stored) != sorted(wanted):
            raise ValueError(
                f"layout is {layout!r}; expected the same distinct axis letters on both sides, "
                "such as 'NHWC->NCHW'"
            )
        return layout

    @model_validator(mode="after")
    def _arithmetic_needs_floats(self) -> Self:
        arithmetic = [key for key in ("scale", "mean", "std") if getattr(self, key) is not None]
        if arithmetic and self.dtype in {"int64", "int32", "uint8", "bool"}:
            raise ValueError(
                f"{' and '.join(arithmetic)} given with dtype {self.dtype!r}; expected a float "
                "dtype, because the result is not whole: use dtype 'float32'"
            )
        return self

    @property
    def axes(self) -> tuple[int, ...] | None:
        """For each axis of the result, the stored axis it comes from; None without a layout."""
        if self.layout is None:
            return None
        stored, wanted = self.layout.split("->")
        return tuple(stored.index(letter) for letter in wanted)

    @property
    def channel_axis(self) -> int:
        """The axis that `mean` and `std` run along: the layout's C, and without one axis 1."""
        wanted = "" if self.layout is None else self.layout.split("->")[1]
        return wanted.index("C") if "C" in wanted else 1
