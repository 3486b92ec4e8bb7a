"""What the parts of a report are made of: checked numbers, vectors and texts.

Every figure takes its title, description and metric card from `service.report.cards.catalogue`.
"""

from dataclasses import asdict
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, StringConstraints
from pydantic.fields import FieldInfo

from service.report.cards.catalogue import CARDS

# No layer in sight is wider; it bounds what a hostile child can have stored.
MAX_ENTRIES = 65_536


def figure(key: str) -> FieldInfo:
    """The field of a figure, described by its metric card. Raises KeyError if there is no card."""
    card = CARDS[key]
    described: FieldInfo = Field(
        title=card.title,
        description=card.definition,
        json_schema_extra={"x-metric-card": asdict(card)},
    )
    return described


def _decreasing(values: list[float]) -> list[float]:
    if any(later > earlier for earlier, later in pairwise(values)):
        raise ValueError("must not increase: vectors are ordered by decreasing eigenvalue")
    return values


def _never_decreasing(values: list[float]) -> list[float]:
    if any(later < earlier for earlier, later in pairwise(values)):
        raise ValueError("must not decrease: it is a cumulative sum")
    return values


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"the lower bound {bounds[0]} is above the upper bound {bounds[1]}")
    return bounds


Name = Annotated[str, StringConstraints(min_length=1, max_length=400)]
Sentence = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
Sentences = Annotated[list[Sentence], Field(max_length=100)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Eigenvalues = Annotated[
    list[Annotated[float, Field(gt=0)]], Field(max_length=MAX_ENTRIES), AfterValidator(_decreasing)
]
Shares = Annotated[list[Share], Field(max_length=MAX_ENTRIES)]
Cumulative = Annotated[Shares, AfterValidator(_never_decreasing)]
LossKind = Literal["cross_entropy", "binary_cross_entropy", "squared_error"]
Interval = Annotated[tuple[float, float], AfterValidator(_ordered)]


class Part(BaseModel):
    """What all parts of a report share: no unknown fields, no coercion, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


TargetName = Annotated[
    Name | None,
    Field(description="The array or column that was taken for the targets; null: none."),
]

ClassNames = Annotated[
    Annotated[list[Name], Field(max_length=MAX_ENTRIES)] | None,
    Field(description="What the classes are called, in their order; null if nobody said."),
]


def require_length(expected: int, **vectors: list[float] | None) -> None:
    """Raises ValueError unless each vector that is there has the expected length."""
    for name, vector in vectors.items():
        if vector is not None and len(vector) != expected:
            raise ValueError(f"{name} must have {expected} entries, one a rank, has {len(vector)}")


class GivenInput(Part):
    """One input of the model: where it came from, and all that was done to it."""

    argument: Annotated[Name, Field(description="The argument of the model's forward.")]
    array: Annotated[Name, Field(description="The array of the probe's file that it got.")]
    stored: Annotated[Name, Field(description="The array's dtype in the file.")]
    dtype: Annotated[Name, Field(description="What the model got.")]
    transform: Annotated[
        dict[str, JsonValue],
        Field(
            description="What was done to the stored values, complete: set as `transform` in a "
            "probe's spec it does the same."
        ),
    ]
    done: Annotated[Sentence, Field(description="The same in words, with the reasons.")]


GivenInputs = Annotated[
    list[GivenInput],
    Field(
        default_factory=list,
        max_length=16,
        description="What the model got, in the order of its arguments.",
    ),
]
