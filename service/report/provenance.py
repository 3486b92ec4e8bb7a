"""What a report says of how it came about."""

import json
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue

from service.report.card import MetricCard
from service.report.figures import Figure, Part
from service.report.parts import Count, Name, NonNegative

_SOLVER_ACCURACY = MetricCard(
    title="Accuracy of the solver",
    definition="How far rounding may put an eigenvalue off, as a share of the first one.",
    formula="4 √q · 2⁻⁵², q the smaller of rows and features",
    range="≥ 0; about 1e-14",
    reading=(
        "An eigenvalue ρ_k is known to about this, divided by ρ_k/ρ_1. All figures of the "
        "verdict rest on eigenvalues far above it."
    ),
    failure_modes=(
        "It is the solver's rounding, not that of the features: those in float32 are "
        "themselves uncertain by 6e-8 of their size."
    ),
    reference="Phiscope, measured against a singular value decomposition of the features",
)
_SEED = MetricCard(
    title="Seed",
    definition="Seed of everything random in the analysis: sampling and folds.",
    formula="as in the options",
    range="≥ 0",
    reading="The same seed, model, probe and versions give the same report.",
    failure_modes="Another number of threads may change the last digits.",
    reference="Phiscope",
)
_TIMINGS = MetricCard(
    title="Timings",
    definition="Seconds that each stage of the analysis took.",
    formula="wall-clock time",
    range="≥ 0 seconds",
    reading="Shows where the time went.",
    failure_modes="Depends on what else the machine was doing.",
    reference="Phiscope",
)

MAX_OPTIONS_CHARACTERS = 16_384


def _plain_json(options: dict[str, JsonValue]) -> dict[str, JsonValue]:
    size = len(json.dumps(options, allow_nan=False))
    if size > MAX_OPTIONS_CHARACTERS:
        raise ValueError(f"must be at most {MAX_OPTIONS_CHARACTERS} characters of JSON, is {size}")
    return options


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
            "Intervals use the leading ones alone where these suffice, each known to 3 % of what "
            "leaving out a fold changes."
        ),
    ]
    # Reports written before there was a choice lack it.
    device: Annotated[
        Name,
        Field(
            description="Where features were summed up and diagonalized: cpu, or cuda where the "
            "model ran there and the problem is large enough to be solved sooner there."
        ),
    ] = "cpu"
    accuracy: Annotated[NonNegative, Figure(_SOLVER_ACCURACY)]


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
    seed: Annotated[Count, Figure(_SEED)]
    options: Annotated[
        dict[str, JsonValue],
        AfterValidator(_plain_json),
        Field(description="Options of the analysis, defaults filled in."),
    ]
    timings: Annotated[dict[Name, NonNegative], Field(max_length=64), Figure(_TIMINGS)]
