"""Which charts a report has, and drawing them."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from service.analyses import service as analyses
from service.charts import compression, layers, projections, spectrum, verdict
from service.charts.reading import Drawable
from service.charts.schemas import ChartRead
from service.http.problems import NotFound


@dataclass(frozen=True)
class Chart:
    """A kind of picture.

    Attributes:
        title: What it shows.
        draw: Draws it; never fails on a report that could be read.
        drawn_of: Whether a report has what it shows.
        absent: Why a report has not.
    """

    title: str
    draw: Callable[[Drawable], str]
    drawn_of: Callable[[Drawable], bool] = lambda _: True
    absent: str = ""


CHARTS: dict[str, Chart] = {
    "verdict": Chart("The figures that decide, against the bands of the rule", verdict.draw),
    "spectrum": Chart("How strong the features are", spectrum.draw),
    "projections": Chart(
        "What the features are used for, and what they know of the target", projections.draw
    ),
    "compression": Chart(
        "How many features the answers need",
        compression.draw,
        lambda report: bool(report.compression),
        "its report has no compression curve",
    ),
    "layers": Chart(
        "Where in depth the network becomes minimal",
        layers.draw,
        lambda report: bool(report.layers),
        'it was not asked for the layers: the option is "layers": "all"',
    ),
}


async def list_charts(session: AsyncSession, analysis_id: UUID) -> list[ChartRead]:
    """List the charts that an analysis has.

    Raises:
        NotFound: There is no such analysis.
        NotReady: It has not succeeded.
    """
    report = await _read(session, analysis_id)
    return [
        ChartRead(
            name=name,
            title=CHARTS[name].title,
            href=f"/v1/analyses/{analysis_id}/charts/{name}.svg",
        )
        for name in _names(report)
    ]


async def draw_chart(session: AsyncSession, analysis_id: UUID, name: str) -> str:
    """Draw a chart, as SVG.

    Raises:
        NotFound: There is no such analysis, or it has no such chart.
        NotReady: It has not succeeded.
    """
    report = await _read(session, analysis_id)
    there = _names(report)
    if name not in there:
        why = f"; {CHARTS[name].absent}" if name in CHARTS else ""
        raise NotFound(f"The analysis has no chart {name!r}; it has {', '.join(there)}{why}.")
    return await asyncio.to_thread(CHARTS[name].draw, report)


def _names(report: Drawable) -> list[str]:
    return [name for name, chart in CHARTS.items() if chart.drawn_of(report)]


async def _read(session: AsyncSession, analysis_id: UUID) -> Drawable:
    text, _ = await analyses.get_report(session, analysis_id)
    # Reports with many layers are large; others' requests go on meanwhile.
    return await asyncio.to_thread(Drawable.model_validate_json, text)
