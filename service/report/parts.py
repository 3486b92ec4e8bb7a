"""What the parts of a report are made of: checked numbers, vectors and texts."""

from itertools import pairwise
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

# No layer in sight is wider; it bounds what a hostile child can have stored.
MAX_ENTRIES = 65_536


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
Interval = Annotated[tuple[float, float], AfterValidator(_ordered)]


def require_length(expected: int, **vectors: list[float] | None) -> None:
    """Raise ValueError unless each vector that is there has the expected length."""
    for name, vector in vectors.items():
        if vector is not None and len(vector) != expected:
            raise ValueError(f"{name} must have {expected} entries, one a rank, has {len(vector)}")
