"""What the child is asked to do, as both sides of the process boundary read it. Free of torch."""

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from service.contract.options import Options
from service.contract.probe_spec import ProbeSpec
from workers.protocol.requests import Device


class ProbeLimits(BaseModel):
    """What a probe may ask for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_array_bytes: PositiveInt = Field(
        default=4 << 30, description="The largest array that is read into memory."
    )
    max_arrays: PositiveInt = Field(default=256, description="The most arrays a file may hold.")
    max_columns: PositiveInt = Field(default=16_384, description="The most columns of a table.")
    max_files: PositiveInt = Field(
        default=65_536, description="The most files that an archive may hold."
    )
    max_file_bytes: PositiveInt = Field(
        default=256 << 20, description="The largest image that is taken out of an archive."
    )
    max_classes: PositiveInt = Field(
        default=65_536, description="The most classes; ImageNet-21k has 21,843."
    )


class AnalysisArguments(BaseModel):
    """One model to be judged on one probe; their files come beside it, in this order.

    The file of the eval probe follows where there is one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    spec: ProbeSpec = Field(description="How the probe is read.")
    eval_spec: ProbeSpec | None = Field(
        description="How the eval probe is read; null if there is none."
    )
    limits: ProbeLimits = Field(description="What each probe may ask for.")
    layers_bytes: PositiveInt = Field(
        description="Memory the sums of all layers may take, and once more one's figures."
    )
    memory_bytes: PositiveInt = Field(description="What the job may allocate.")
    result_bytes: PositiveInt = Field(description="The largest file it may write.")
    device: Device = Field(default="cpu", description="Where the model runs.")
    options: Options
