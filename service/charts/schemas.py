"""Charts, as clients see them."""

from pydantic import BaseModel, Field


class ChartRead(BaseModel):
    """A picture of a report."""

    name: str
    title: str = Field(description="What it shows.")
    href: str = Field(description="Address of the SVG.")
