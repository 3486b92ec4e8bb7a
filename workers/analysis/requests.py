"""What the child is asked to do, as both sides of the process boundary read it. Free of torch."""

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from service.analyses.options import Options
from service.probes.spec import ProbeSpec
from workers.probes.container import Limits
from workers.runner.protocol import Device


class AnalysisArguments(BaseModel):
    """One model to be judged on one probe; their files come beside it, in this order.

    The file of the eval probe follows where there is one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    spec: ProbeSpec = Field(description="How the probe is read.")
    eval_spec: ProbeSpec | None = Field(
        description="How the eval probe is read; null if there is none."
    )
    limits: Limits = Field(description="What each probe may ask for.")
    layers_bytes: PositiveInt = Field(
        description="Memory the sums of all layers may take, and once more one's figures."
    )
    memory_bytes: PositiveInt = Field(description="What the job may allocate.")
    result_bytes: PositiveInt = Field(description="The largest file it may write.")
    device: Device = Field(default="cpu", description="Where the model runs.")
    options: Options
