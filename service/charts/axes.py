"""Scales from figures to pixels, with ticks at round numbers, and the frame of a plot."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.charts.svg import Fragment, element, label, line, number

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
# So many labels stand beside each other at the size that a phone needs.
_MOST_TICKS = 7
# Nothing that float64 can tell from zero beside 1 lies below; eigenvalues end long before.
_LEAST_RATIO = 1e-30
_PLAIN_DECADES = range(-2, 5)  # 0.01 to 10000 are easier to read than powers of ten


@dataclass(frozen=True)
class Scale:
    """Where a figure lies on an axis.

    Attributes:
        low: Figure at the axis's start.
        high: Figure at its end.
        start: Pixel of its start.
        end: Pixel of its end.
        ticks: Round figures within, in order, each with what is written there.
        logarithmic: Whether equal ratios, not equal differences, are equally long.
    """

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[tuple[float, str], ...]
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Return the pixel of a figure; what lies outside is drawn on the edge."""
        value = min(max(value, self.low), self.high)
        if self.logarithmic:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def linear(low: float, high: float, start: float, end: float) -> Scale:
    """Return a scale of equal steps; it is widened to the next round figures.

    Args:
        low: Least figure to be shown.
        high: Largest figure to be shown, above `low`.
        start: Pixel of the axis's start.
        end: Pixel of its end.
    """
    step = _round_step((high - low) / (_MOST_TICKS - 2))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    values = [index * step for index in range(first, last + 1)]
    digits = max(0, -math.floor(math.log10(step)))
    ticks = tuple((value, f"{value:.{digits}f}".replace("-", "−")) for value in values)
    return Scale(values[0], values[-1], start, end, ticks)


def _round_step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * 0.999)


def shares(start: float, end: float) -> Scale:
    """Return a scale from 0 to 1, in quarters."""
    ticks = tuple((each / 4, f"{each / 4:g}") for each in range(5))
    return Scale(0.0, 1.0, start, end, ticks)


def counts(highest: float, start: float, end: float, *, most: int = _MOST_TICKS) -> Scale:
    """Return a logarithmic scale from 1 to a number of things, with at most so many ticks."""
    high = max(highest, 10.0)
    last = math.floor(math.log10(high) + 1e-9)
    finer = [factor * 10.0**decade for decade in range(last + 1) for factor in (1, 2, 5)]
    values = [value for value in finer if value <= high * (1 + 1e-9)]
    if len(values) > most:
        values = [10.0**decade for decade in range(0, last + 1, math.ceil((last + 1) / most))]
    ticks = tuple((value, _power_label(value)) for value in values)
    return Scale(1.0, high, start, end, ticks, logarithmic=True)


def ratios(lowest: float, start: float, end: float) -> Scale:
    """Return a logarithmic scale from the power of ten below a positive figure up to 1."""
    depth = max(1, math.ceil(-math.log10(max(lowest, _LEAST_RATIO)) - 1e-9))
    step = math.ceil(depth / (_MOST_TICKS - 2))
    ticks = tuple((10.0**-each, _power_label(10.0**-each)) for each in range(0, depth + 1, step))
    return Scale(10.0**-depth, 1.0, start, end, ticks, logarithmic=True)


def _power_label(value: float) -> str:
    exponent = math.floor(math.log10(value) + 1e-9)
    if exponent in _PLAIN_DECADES:
        return f"{value:g}"
    return f"10{str(exponent).translate(_SUPERSCRIPTS)}"


@dataclass(frozen=True)
class Plot:
    """A rectangle with an axis below and one at its left."""

    x: Scale
    y: Scale

    def frame(self, x_label: str, y_label: str) -> Fragment:
        """Draw axes, grid and labels.

        Args:
            x_label: What is along the axis below; empty to leave its figures out as well.
            y_label: What is along the axis at the left.
        """
        left, right, bottom, top = self.x.start, self.x.end, self.y.start, self.y.end
        parts = [
            *(line(left, self.y(value), right, self.y(value), "grid") for value, _ in self.y.ticks),
            *(line(self.x(value), bottom, self.x(value), top, "grid") for value, _ in self.x.ticks),
            line(left, bottom, right, bottom, "frame"),
            line(left, bottom, left, top, "frame"),
            *(
                label(left - 8, self.y(value) + 4.5, name, "end soft")
                for value, name in self.y.ticks
            ),
            _upright(20, (bottom + top) / 2, y_label),
        ]
        if x_label:
            parts += (
                label(self.x(value), bottom + 19, name, "middle soft")
                for value, name in self.x.ticks
            )
            parts.append(label((left + right) / 2, bottom + 44, x_label, "middle"))
        return element("g", None, *parts)

    def curve(self, points: Sequence[tuple[float, float]], classes: str) -> Fragment:
        """Draw a line through points, with marks that are far enough apart to be told apart.

        Args:
            points: In order of increasing x.
            classes: What it is drawn as: `a`, `b` or `c`.
        """
        places = thinned([(self.x(x), self.y(y)) for x, y in points])
        path = "M" + "L".join(f"{number(x)} {number(y)}" for x, y in places)
        marks, last = [], -math.inf
        for x, y in places:
            if x - last >= _MARK_DISTANCE:
                marks.append(mark(x, y, classes))
                last = x
        return element("g", None, element("path", {"d": path, "class": f"line {classes}"}), *marks)

    def bars(self, intervals: Sequence[tuple[float, float, float]], classes: str) -> Fragment:
        """Draw an interval as an upright bar at each of some places.

        Args:
            intervals: Place, lower and upper bound.
            classes: As of the curve that they belong to.
        """
        return element(
            "g",
            None,
            *(
                line(self.x(x), self.y(low), self.x(x), self.y(high), f"bar {classes}")
                for x, low, high in intervals
            ),
        )


_MARK_DISTANCE = 22
_COLUMN = 4


def thinned(places: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Keep what can be seen: of the places in one narrow column the ends, highest and lowest."""
    columns: dict[int, list[tuple[float, float]]] = {}
    for place in places:
        columns.setdefault(int(place[0] // _COLUMN), []).append(place)
    kept = []
    for column in columns.values():
        by_height = sorted(range(len(column)), key=lambda index: column[index][1])
        ends = {0, len(column) - 1, by_height[0], by_height[-1]}
        kept += [column[index] for index in sorted(ends)]
    return kept


def mark(x: float, y: float, classes: str) -> Fragment:
    """Draw the mark of a series: a disc, a square or a triangle."""
    return _MARKS[classes](x, y)


def _disc(x: float, y: float) -> Fragment:
    return element("circle", {"cx": x, "cy": y, "r": 3.2, "class": "mark a"})


def _square(x: float, y: float) -> Fragment:
    size: dict[str, str | float] = {"x": x - 3.2, "y": y - 3.2, "width": 6.4, "height": 6.4}
    return element("rect", size | {"class": "mark b"})


def _triangle(x: float, y: float) -> Fragment:
    corners = f"{number(x - 4)},{number(y + 3)} {number(x + 4)},{number(y + 3)} {number(x)},"
    return element("polygon", {"points": f"{corners}{number(y - 4.4)}", "class": "mark c"})


_MARKS: dict[str, Callable[[float, float], Fragment]] = {"a": _disc, "b": _square, "c": _triangle}


def _upright(x: float, y: float, content: str) -> Fragment:
    turned = {"transform": f"translate({number(x)} {number(y)}) rotate(-90)"}
    return element("g", turned, label(0, 0, content, "middle"))
