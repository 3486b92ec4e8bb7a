"""Pictures as SVG: lines over a scale, and dots with their intervals."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

Point = tuple[float, float]

# Okabe and Ito's colours, which people with any colour vision can tell apart; dashes tell lines
# apart without colour.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_DASHES = ("", "6 3", "2 2", "8 3 2 3", "1 4", "12 3", "4 4 1 4")
_WIDTH, _LEFT, _TOP, _BOTTOM = 760, 60, 40, 46
_PLOT = 440
_ROW = 22
_LABELS = 320
_TICK_ROOM = 28


@dataclass(frozen=True)
class Dot:
    """A value with its interval, in a line of its own."""

    label: str
    value: float
    low: float
    high: float
    filled: bool


def lines(
    title: str, across: str, series: Mapping[str, Sequence[Point]], *, height: int = 300
) -> str:
    """Draw series of values in [0, 1] over a scale that is equidistant in log(1 + x).

    Args:
        title: What the values are.
        across: What the scale is.
        series: Points by name, in ascending order.
        height: Of the picture, in pixels.
    """
    ticks = sorted({x for points in series.values() for x, _ in points})
    low, high = math.log1p(ticks[0]), math.log1p(ticks[-1])
    bottom = height - _BOTTOM

    def at(point: Point) -> tuple[float, float]:
        share = (math.log1p(point[0]) - low) / (high - low or 1)
        return _LEFT + share * _PLOT, bottom - point[1] * (bottom - _TOP)

    parts = [_text(_LEFT, 22, title, "bold")]
    for level in (0, 0.25, 0.5, 0.75, 1):
        x, y = at((ticks[0], level))
        parts.append(f'<path d="M{x:.1f} {y:.1f}h{_PLOT}" stroke="#ddd"/>')
        parts.append(_text(_LEFT - 8, y + 4, f"{level:g}", anchor="end"))
    written = -math.inf
    for tick in ticks:
        x, _ = at((tick, 0))
        if x - written > _TICK_ROOM:
            parts.append(_text(x, bottom + 18, f"{tick:g}", anchor="middle"))
            written = x
    parts.append(_text(_LEFT + _PLOT / 2, bottom + 38, across, anchor="middle"))
    for k, (name, points) in enumerate(series.items()):
        style = f'stroke="{_COLOURS[k % 7]}" stroke-dasharray="{_DASHES[k % 7]}"'
        path = "L".join("{:.1f} {:.1f}".format(*at(point)) for point in points)
        y = _TOP + 8 + k * 20
        key = _LEFT + _PLOT + 20
        parts.append(f'<path d="M{path}" fill="none" stroke-width="2" {style}/>')
        parts.append(f'<path d="M{key} {y}h26" stroke-width="2" {style}/>')
        parts.append(_text(key + 34, y + 4, name))
    return _picture(height, title, parts)


def dots(title: str, rows: Sequence[Dot], bands: Sequence[float]) -> str:
    """Draw a value in [0, 1] and its interval for each row, and bounds that it is compared with.

    Args:
        title: What the values are.
        rows: From the top.
        bands: Where vertical lines go.
    """
    bottom = _TOP + len(rows) * _ROW
    scale = _WIDTH - _LABELS - 30

    def at(value: float) -> float:
        return _LABELS + min(max(value, 0), 1) * scale

    parts = [_text(10, 22, title, "bold")]
    for level in (0, 0.25, 0.5, 0.75, 1):
        parts.append(f'<path d="M{at(level):.1f} {_TOP}V{bottom}" stroke="#ddd"/>')
        parts.append(_text(at(level), bottom + 18, f"{level:g}", anchor="middle"))
    parts += [
        f'<path d="M{at(band):.1f} {_TOP}V{bottom}" stroke="#888" stroke-dasharray="4 3"/>'
        for band in bands
    ]
    for k, row in enumerate(rows):
        y = _TOP + (k + 0.5) * _ROW
        fill = _COLOURS[0] if row.filled else "#fff"
        parts.append(_text(_LABELS - 10, y + 4, row.label, anchor="end"))
        parts.append(
            f'<path d="M{at(row.low):.1f} {y}H{at(row.high):.1f}" stroke="{_COLOURS[0]}"/>'
            f'<circle cx="{at(row.value):.1f}" cy="{y}" r="4" fill="{fill}" '
            f'stroke="{_COLOURS[0]}"/>'
        )
    return _picture(bottom + _BOTTOM - 16, title, parts)


def _text(x: float, y: float, text: str, weight: str = "normal", anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-weight="{weight}" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )


def _picture(height: int, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'font-family="sans-serif" font-size="12">\n<title>{escape(title)}</title>\n'
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )
