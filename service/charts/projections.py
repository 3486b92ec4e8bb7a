"""What the features are used for, and what they know of the target: the two cumulative curves."""

from service.charts.axes import Plot, counts, shares
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
from service.charts.reading import Drawable
from service.charts.svg import document


def draw(drawable: Drawable) -> str:
    """Draw `Π̂(k)`, `Π*(k)` and its chance level, centred, over k on a logarithmic axis."""
    centered = drawable.projections.centered
    series = [
        ("a", "outputs Π̂(k)", centered.cumulative_utilization),
        ("b", "target Π*(k)", centered.cumulative_quality),
        ("c", "target by chance", centered.quality_chance_level),
    ]
    drawn = [(classes, name, values) for classes, name, values in series if values]
    rank = len(drawable.spectrum.centered.relative)
    plot = Plot(x=counts(rank, LEFT, RIGHT), y=shares(BOTTOM, TOP))
    title = _title(drawable)
    return document(
        title,
        _description(drawable),
        heading(title, drawable),
        legend([(classes, name) for classes, name, _ in drawn]),
        plot.frame("first k eigenfunctions (centred)", "share held"),
        rank_mark(plot, drawable.verdict.minimality.rank if drawn else 0),
        *(
            plot.curve([(float(k), value) for k, value in enumerate(values, 1)], classes)
            for classes, _, values in reversed(drawn)
        ),
        *([] if drawn else [remark(plot, _nothing(drawable))]),
    )


def _title(drawable: Drawable) -> str:
    held = _held(drawable)
    if held is None:
        return "What the features are used for"
    r, utilization, quality = held
    target = "" if quality is None else f", {percent(quality)} of target"
    first = "The first alone" if r == 1 else f"The first {r}"
    return f"{first}: {percent(utilization)} of outputs{target}"


def _nothing(drawable: Drawable) -> str:
    """Say why there are no curves."""
    if drawable.spectrum.centered.relative:
        return "The model has no outputs, and the probe no targets."
    return "The features do not vary over the probe."


def _description(drawable: Drawable) -> str:
    about = (
        "Share of the learned functions, and of the target functions, that the first k "
        "eigenfunctions hold together, centred, over k on a logarithmic axis."
    )
    sentences = [about]
    held = _held(drawable)
    if held is None:
        sentences.append(_without_outputs(drawable))
        return " ".join(sentences)
    r, utilization, quality = held
    sentences.append(f"At k = r = {r}: {percent(utilization)} of the learned functions.")
    if quality is None:
        sentences.append("The probe has no targets.")
    else:
        sentences.append(f"{percent(quality)} of the target.")
    chance = drawable.projections.centered.quality_chance_level
    if chance is not None:
        sentences.append(f"By chance it would be {percent(chance[r - 1])} of the target.")
    return " ".join(sentences)


def _without_outputs(drawable: Drawable) -> str:
    """Describe the chart of a model whose learned functions are not known, or there are none."""
    centered = drawable.projections.centered
    if not centered.cumulative_quality:
        return f"{_nothing(drawable)} There is nothing to show."
    return (
        f"There are no outputs. All hold {percent(centered.cumulative_quality[-1])} of the target."
    )


def _held(drawable: Drawable) -> tuple[int, float, float | None] | None:
    """Return r, and both curves there; None where there are no curves."""
    centered = drawable.projections.centered
    utilization, quality = centered.cumulative_utilization, centered.cumulative_quality
    r = min(drawable.verdict.minimality.rank, len(utilization or ()))
    if utilization is None or r < 1:
        return None
    return r, utilization[r - 1], None if quality is None else quality[r - 1]
