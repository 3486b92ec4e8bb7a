"""How many eigenfunctions a network needs to keep its answers."""

from service.charts.axes import Plot, Scale, counts, linear, shares
from service.charts.layout import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    heading,
    legend,
    percent,
    rank_mark,
    remark,
)
from service.charts.reading import CompressionPoint, Drawable
from service.charts.svg import document

# Where as many answers stay the same, or the outputs change by no more than the rest, the network
# is called kept.
_KEPT = 0.99


def draw(drawable: Drawable) -> str:
    """Draw accuracy, agreement and output error over the number of eigenfunctions kept."""
    points = [point for point in drawable.compression or [] if point.k >= 1]
    series = [
        ("a", "same answer", _values(points, "agreement")),
        ("b", "accuracy", _values(points, "accuracy")),
        ("c", "output error", _values(points, "output_error")),
    ]
    drawn = [(classes, name, values) for classes, name, values in series if values]
    plot = Plot(
        x=counts(max((point.k for point in points), default=1), LEFT, RIGHT),
        y=_heights([value for _, _, values in drawn for _, value in values]),
    )
    title = _title(points)
    return document(
        title,
        _description(points),
        heading(title, drawable),
        legend([(classes, name) for classes, name, _ in drawn]),
        plot.frame("first k eigenfunctions kept", "share"),
        rank_mark(plot, drawable.verdict.minimality.rank if drawn else 0),
        *(plot.curve(values, classes) for classes, _, values in reversed(drawn)),
        *([] if drawn else [remark(plot, "The report has no compression curve.")]),
    )


def _values(points: list[CompressionPoint], name: str) -> list[tuple[float, float]]:
    found = ((float(point.k), getattr(point, name)) for point in points)
    return [(k, value) for k, value in found if value is not None]


def _heights(values: list[float]) -> Scale:
    highest = max(values, default=1.0)
    return shares(BOTTOM, TOP) if highest <= 1 else linear(0.0, highest, BOTTOM, TOP)


def _kept(points: list[CompressionPoint]) -> CompressionPoint | None:
    """Return the least that is drawn of the network that still is as good as all of it."""
    for point in points:
        if point.agreement is not None and point.agreement >= _KEPT:
            return point
        if point.agreement is None and (point.output_error or 1.0) <= 1 - _KEPT:
            return point
    return None


def _title(points: list[CompressionPoint]) -> str:
    kept = _kept(points)
    if kept is None:
        return "How many features the answers need"
    of = f"{kept.k} of {points[-1].k} eigenfunctions"
    if kept.agreement is None:
        return f"{of} keep the outputs within {percent(kept.output_error or 0.0)}"
    return f"{of} keep {percent(kept.agreement)} of answers"


def _description(points: list[CompressionPoint]) -> str:
    about = (
        "What is left of the network when its outputs are projected on the first k eigenfunctions, "
        "over k on a logarithmic axis: the share of answers that stay as they were, the "
        "accuracy, and the relative error of the outputs."
    )
    sentences = [about]
    kept = _kept(points)
    if kept is not None:
        for name in ("agreement", "accuracy", "output_error"):
            value = getattr(kept, name)
            if value is not None:
                sentences.append(f"At k = {kept.k}, {name.replace('_', ' ')} is {value:.3g}.")
    return " ".join(sentences)
