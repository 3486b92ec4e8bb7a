"""How far a job is, as clients see it."""

from pydantic import BaseModel, Field


class Progress(BaseModel):
    """How far a running analysis is."""

    stage: str = Field(description="`queued`, `starting`, `evaluating`, …, `finished`.")
    done: int = Field(description="Samples seen in this stage; of `diagonalizing`, steps done.")
    total: int = Field(description="Of how many; 0 where they are not counted.")
