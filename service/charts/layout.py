"""What all charts share: where things stand, heading, legend, and the mark at r."""

import unicodedata
from collections.abc import Sequence

from service.charts.axes import Plot, mark
from service.charts.reading import Drawable
from service.charts.svg import HEIGHT, WIDTH, Fragment, element, label, line

MARGIN = 20
LEFT = 82
RIGHT = WIDTH - 24
TOP = 100
BOTTOM = HEIGHT - 62

_MODEL_WIDTH = 34
_PROBE_WIDTH = 22
# A character of the legend, at the size that a phone needs.
_CHARACTER = 9.2
_SAMPLE = 34


def heading(title: str, drawable: Drawable) -> Fragment:
    """Write what a chart shows, and of which model on which probe."""
    model, probe = drawable.model, drawable.probe
    run = "" if model.run is None else f", {model.run}"
    step = "" if model.step is None else f", step {model.step}"
    name = shortened(f"{model.name}{run}{step}", _MODEL_WIDTH)
    on = f"{shortened(probe.name, _PROBE_WIDTH)}@{probe.version}, n = {probe.n}"
    return element(
        "g",
        None,
        label(MARGIN, 28, title, "title"),
        label(MARGIN, 49, f"{name} · {on}", "soft wide"),
        label(MARGIN, 52, name, "soft narrow"),
    )


def shortened(name: str, width: int) -> str:
    """Cut a name to so many characters of usual width; those of East Asia count twice."""
    kept = ""
    for character in name:
        width -= 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if width < 0:
            return f"{kept[:-1]}…"
        kept += character
    return kept


def legend(entries: Sequence[tuple[str, str]]) -> Fragment:
    """Show how each series is drawn.

    Args:
        entries: Classes and name of each.
    """
    x, y = float(MARGIN), 75.0
    parts = []
    for classes, name in entries:
        parts += [
            line(x, y - 4.5, x + _SAMPLE, y - 4.5, f"line {classes}"),
            mark(x + _SAMPLE / 2, y - 4.5, classes),
            label(x + _SAMPLE + 7, y, name),
        ]
        x += _SAMPLE + 7 + _CHARACTER * len(name) + 24
    return element("g", None, *parts)


def rank_mark(plot: Plot, r: int) -> Fragment:
    """Mark how many features the outputs need."""
    if r < 1:
        return element("g")
    x = plot.x(r)
    # At the axis it would stand on the topmost of the axis's own labels.
    aside = x - plot.x.start < _SAMPLE
    name = label(x + 5 * aside, plot.y.end - 7, f"r = {r}", "" if aside else "middle")
    return element("g", None, line(x, plot.y.start, x, plot.y.end - 3, "r"), name)


def remark(plot: Plot, *lines: str) -> Fragment:
    """Say in the middle of a plot why there is nothing else."""
    x = (plot.x.start + plot.x.end) / 2
    y = (plot.y.start + plot.y.end) / 2
    return element(
        "g",
        None,
        *(label(x, y + 22 * place, content, "middle") for place, content in enumerate(lines)),
    )


def percent(share: float) -> str:
    """Write a share; what is not everything is not rounded up to it."""
    if 0.995 <= share < 1:  # noqa: PLR2004 - where rounding would say 100
        return f"{min(share * 100, 99.9):.1f} %"
    return f"{share:.0%}".replace("%", " %")
