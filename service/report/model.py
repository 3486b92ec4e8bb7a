"""What a report says of its model."""

from typing import Annotated
from uuid import UUID

from service.report.card import MetricCard
from service.report.figures import Figure, Part
from service.report.parts import Count, Name, Sha256

_STEP = MetricCard(
    title="Training step",
    definition="Step of the run at which this checkpoint was taken, as given at upload.",
    formula="as uploaded",
    range="≥ 0; null if none was given",
    reading="Orders the checkpoints of a run.",
    failure_modes="Not checked: it is what the uploader said.",
    reference="Phiscope",
)
_PARAMETERS = MetricCard(
    title="Parameters",
    definition="Number of parameters in the model file.",
    formula="Σ numel over parameters",
    range="≥ 0; null if unknown",
    reading="The size of the model. It says nothing about the features.",
    failure_modes=("Frozen archives keep weights as constants, which are counted where they show."),
    reference="Phiscope",
)


class ModelPart(Part):
    """The model that was analysed."""

    id: UUID
    name: Name
    sha256: Sha256
    run: Name | None
    step: Annotated[Count | None, Figure(_STEP)]
    parameters: Annotated[Count | None, Figure(_PARAMETERS)]
