"""How far a job is, as clients see it."""

from pydantic import BaseModel, Field


class Progress(BaseModel):
    """How far a running analysis is."""

    stage: str = Field(description="`queued`, `starting`, `evaluating`, …, `finished`.")
    done: int = Field(description="Samples seen in this stage.")
    total: int = Field(description="Samples of this stage; 0 where they are not counted.")
