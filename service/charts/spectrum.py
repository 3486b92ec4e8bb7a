"""How strong the features are: their relative eigenvalues, in order."""

from service.charts.axes import Plot, counts, ratios
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
    """Draw `ρ_k/ρ_1` over k, uncentred and centred, on logarithmic axes."""
    given = _points(drawable.spectrum.relative)
    centered = _points(drawable.spectrum.centered.relative)
    plot = Plot(
        x=counts(max(len(given), len(centered)), LEFT, RIGHT),
        y=ratios(min(value for _, value in [*given, *centered, (1, 1.0)]), BOTTOM, TOP),
    )
    series = [("b", "as given", given)]
    if centered:
        series.append(("a", "without the mean (centred)", centered))
    title = _title(drawable)
    return document(
        title,
        _description(drawable),
        heading(title, drawable),
        legend([(classes, name) for classes, name, _ in reversed(series)]),
        plot.frame("eigenfunction k", "eigenvalue ρₖ / ρ₁"),
        rank_mark(plot, drawable.verdict.minimality.rank),
        *(plot.curve(points, classes) for classes, _, points in series if points),
        *([] if centered else [remark(plot, "Without their mean, no features are left.")]),
    )


def _points(relative: list[float]) -> list[tuple[float, float]]:
    # The smallest may have become 0 when it was divided by the largest.
    return [(float(k), value) for k, value in enumerate(relative, 1) if value > 0]


def _title(drawable: Drawable) -> str:
    r, energy = drawable.verdict.minimality.rank, drawable.verdict.minimality.energy
    if energy is None:
        return "How strong the features are"
    if r == 1:
        return f"One eigenfunction holds {percent(energy)} of the variance"
    return f"{r} eigenfunctions hold {percent(energy)} of the variance"


def _description(drawable: Drawable) -> str:
    spectrum = drawable.spectrum
    about = (
        "Eigenvalues of the feature operator relative to the first, over the number k of the "
        f"eigenfunction, on logarithmic axes. {len(spectrum.relative)} as given, "
        f"{len(spectrum.centered.relative)} once the mean of the features is removed."
    )
    sentences = [about]
    r = drawable.verdict.minimality.rank
    if 0 < r < len(spectrum.centered.relative):
        before, after = spectrum.centered.relative[r - 1 : r + 1]
        sentences.append(
            f"The outputs need r = {r}; centred, eigenvalue {r} is {before:.2g} of the first and "
            f"eigenvalue {r + 1} is {after:.2g}."
        )
    return " ".join(sentences)
