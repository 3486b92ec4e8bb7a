"""What a report says of its probe."""

from typing import Annotated
from uuid import UUID

from pydantic import Field, JsonValue

from service.contract.probe_spec import Task
from service.contract.rule import THRESHOLDS
from service.report.card import PAPER, MetricCard
from service.report.figures import Figure, Part
from service.report.parts import MAX_ENTRIES, Count, Name, Positive, Sentence, Sentences, Sha256

_VERSION = MetricCard(
    title="Version of the probe",
    definition="Which registration under the probe's name this was.",
    formula="1, 2, 3 …",
    range="≥ 1",
    reading="Compare reports on one version only: another version is other data.",
    failure_modes="None: a probe is immutable.",
    reference="Phiscope",
)
_N = MetricCard(
    title="Samples",
    definition="Number of samples of the probe that were analysed; positions do not count.",
    formula="n",
    range="≥ 10",
    reading=(f"{THRESHOLDS.warn_samples} and more make the figures steady; 5000 make them sharp."),
    failure_modes=(
        "Below the number of features, energy is biased and trailing features are noise."
    ),
    reference="Phiscope",
)
_CLASSES = MetricCard(
    title="Classes",
    definition=(
        "Number of classes the probe's labels name; of several labels a sample, how many there are."
    ),
    formula="C",
    range="≥ 1; null for regression or without targets",
    reading="Should be the number of the model's outputs.",
    failure_modes="A class may have no sample: see the counts.",
    reference="Phiscope",
)
_CLASS_COUNTS = MetricCard(
    title="Labels per class",
    definition="How many labels each class has among the analysed samples.",
    formula=(
        "n_c, with Σ n_c = n · positions; of several labels a sample, those that carry label c"
    ),
    range="≥ 0; null for regression or without targets",
    reading=(
        "Best equal: every figure weighs labels alike, so large classes weigh more, unless "
        "the option class_weighting is balanced."
    ),
    failure_modes="An imbalance of 100 moved D from 0.06 to 0.34 and U from 0.97 to 0.84.",
    reference=PAPER,
)
_IGNORED = MetricCard(
    title="Labels left out",
    definition="How many labels are the spec's `ignore_label`, and count in no figure.",
    formula="as counted",
    range="≥ 0; null if no label is to be left out",
    reading="The model still runs on these positions; only their rows are left out.",
    failure_modes=(
        "A sample whose every label is left out does not count as a sample; it is counted here."
    ),
    reference="Phiscope",
)

TargetName = Annotated[
    Name | None,
    Field(description="The array or column that was taken for the targets; null: none."),
]

ClassNames = Annotated[
    Annotated[list[Name], Field(max_length=MAX_ENTRIES)] | None,
    Field(description="What the classes are called, in their order; null if nobody said."),
]


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


class ProbePart(Part):
    """The data that it was analysed on."""

    id: UUID
    name: Name
    version: Annotated[Positive, Figure(_VERSION)]
    sha256: Sha256
    n: Annotated[Positive, Figure(_N)]
    classes: Annotated[Positive | None, Figure(_CLASSES)]
    class_counts: Annotated[
        Annotated[list[Count], Field(max_length=MAX_ENTRIES)] | None, Figure(_CLASS_COUNTS)
    ]
    # Reports written before labels had names, and could be left out, lack both.
    class_names: ClassNames = None
    ignored: Annotated[Count | None, Figure(_IGNORED)] = None
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
