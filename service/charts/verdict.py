"""The figures that decide, with their intervals, against the bands of the rule."""

import math
import textwrap
from dataclasses import dataclass

from service.charts.axes import Scale, linear, mark
from service.charts.layout import MARGIN, heading
from service.charts.reading import Drawable, Interval, Verdict
from service.charts.svg import Fragment, document, element, label, line

_START, _END = 172, 470
_ROWS = (66, 130, 194)  # tops
_ROW = 54
_NOTE_WIDTH = 62  # characters of a line, at the size that a phone needs
_NOTE_LINES = 3
_BOTTOM = _ROWS[-1] + _ROW

_TITLES = {
    "MF": "Minimal features (MF)",
    "EF": "Extended features (EF)",
    "undetermined": "Undetermined: neither MF nor EF",
}


@dataclass(frozen=True)
class _Row:
    """One figure.

    Attributes:
        symbol: What the rule calls it.
        meaning: What it measures, in two words.
        value: The figure; None where it is undefined.
        interval: Its 95 % interval.
        mf: Bound from which, or up to which, it speaks for MF.
        ef: The same for EF.
        least: What it cannot be below.
        certain: From here on it shows EF alone.
    """

    symbol: str
    meaning: str
    value: float | None
    interval: Interval | None
    mf: float
    ef: float
    least: float = 0.0
    certain: float | None = None


def draw(drawable: Drawable) -> str:
    """Draw Ũ', E and D as dots with 95 % intervals, and the zones of MF and EF.

    The first rule, UED-1, judged U' instead of Ũ'.
    """
    verdict = drawable.verdict
    rows = _rows(verdict)
    lowest = min([0.0, *(bound for row in rows for bound in (row.interval or (0.0, 0.0)))])
    scale = linear(lowest, 1.0, _START, _END)
    title = _title(verdict)
    return document(
        title,
        _description(verdict, rows),
        heading(title, drawable),
        *(_draw_row(row, scale, top) for row, top in zip(rows, _ROWS, strict=True)),
        _axis(scale),
        *(
            label(MARGIN, 306 + 20 * place, text, "soft")
            for place, text in enumerate(_note(verdict))
        ),
    )


def _title(verdict: Verdict) -> str:
    summary = None if verdict.assessment is None else verdict.assessment.summary
    return _TITLES[verdict.regime] if summary is None else f"{verdict.regime}: {summary}"


def _note(verdict: Verdict) -> list[str]:
    """Say what decided, which the figures alone may not show, and what is drawn."""
    # Reasons that give a figure begin with its symbol.
    why = [each for each in verdict.reasons if not each.startswith(("U' =", "Ũ' =", "E =", "D ="))]
    lines = textwrap.wrap("".join(why[:1]), _NOTE_WIDTH, max_lines=_NOTE_LINES, placeholder=" …")
    if len(lines) < _NOTE_LINES:
        lines.append(f"Dots with 95 % intervals, in the zones of rule {verdict.rule}.")
    return lines


def _rows(verdict: Verdict) -> list[_Row]:
    figures, intervals = verdict.minimality, verdict.confidence_interval
    bands = verdict.thresholds
    if verdict.rule == "UED-1":
        symbol, utilization = "U′", figures.utilization_corrected
        interval = intervals.utilization_corrected
    else:
        symbol, utilization = "Ũ′", figures.utilization_tapered
        interval = intervals.utilization_tapered
    return [
        _Row(
            symbol,
            "utilization",
            utilization,
            interval,
            bands.mf_utilization,
            bands.ef_utilization,
            -math.inf,
        ),
        _Row("E", "energy", figures.energy, intervals.energy, bands.mf_energy, bands.ef_energy),
        _Row(
            "D",
            "distance",
            figures.distance,
            intervals.distance,
            bands.mf_distance,
            bands.ef_distance,
            certain=bands.ef_certain_distance,
        ),
    ]


def _draw_row(row: _Row, scale: Scale, top: float) -> Fragment:
    middle = top + _ROW / 2
    parts = [
        _zone(row.mf, scale.high if row.mf > row.ef else row.least, "MF", scale, top),
        _zone(row.ef, row.least if row.mf > row.ef else scale.high, "EF", scale, top),
        *([] if row.certain is None else [_shade(row.certain, scale.high, "ef", scale, top)]),
        line(scale(row.least), middle, scale.end, middle, "grid"),
        label(MARGIN, middle + 6, row.symbol, "big"),
        label(MARGIN + 34, middle + 5, row.meaning),
    ]
    if row.value is None:
        parts.append(label(_END + 14, middle + 5, "undefined"))
        return element("g", None, *parts)
    if row.interval is not None:
        low, high = (scale(bound) for bound in row.interval)
        parts += [
            line(low, middle, high, middle, "line a"),
            *(line(end, middle - 7, end, middle + 7, "line a") for end in (low, high)),
            label(_END + 14, middle + 19, " to ".join(map(_figure, row.interval)), "soft"),
        ]
    parts += [
        mark(scale(row.value), middle, "a"),
        label(_END + 14, middle - 1, _figure(row.value), "big"),
    ]
    return element("g", None, *parts)


def _figure(value: float) -> str:
    return f"{value:.3f}".replace("-", "−")


def _zone(bound: float, end: float, regime: str, scale: Scale, top: float) -> Fragment:
    middle = (scale(bound) + scale(end)) / 2
    shade = _shade(bound, end, regime.lower(), scale, top)
    return element("g", None, shade, label(middle, top + 15, regime, "middle soft"))


def _shade(bound: float, end: float, classes: str, scale: Scale, top: float) -> Fragment:
    left, right = sorted((scale(bound), scale(end)))
    shape: dict[str, str | float] = {"x": left, "y": top, "width": right - left, "height": _ROW}
    return element("rect", shape | {"class": classes})


def _axis(scale: Scale) -> Fragment:
    return element(
        "g",
        None,
        line(scale.start, _BOTTOM + 6, scale.end, _BOTTOM + 6, "frame"),
        *(line(scale(at), _BOTTOM + 6, scale(at), _BOTTOM + 11, "frame") for at, _ in scale.ticks),
        *(label(scale(at), _BOTTOM + 28, name, "middle soft") for at, name in scale.ticks),
    )


def _description(verdict: Verdict, rows: list[_Row]) -> str:
    sentences = [f"{_title(verdict)}, by rule {verdict.rule}.", *verdict.reasons]
    undefined = [row.symbol for row in rows if row.value is None]
    if undefined:
        sentences.append(f"Undefined on this probe: {', '.join(undefined)}.")
    return " ".join(sentences)
