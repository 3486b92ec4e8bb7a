"""Where in depth the network becomes minimal: D_LR and effective rank, layer by layer."""

from service.charts.axes import Plot, Scale, counts, shares
from service.charts.layout import LEFT, RIGHT, heading, remark, shortened
from service.charts.reading import Drawable, Layer
from service.charts.svg import document

_UPPER = (172, 76)  # bottom and top of the plot of D_LR
_LOWER = (298, 202)
_MOST_NAMES = 6
_MOST_NUMBERS = 12
_CHARACTER = 9.2
_MOST_DESCRIBED = 40


def draw(drawable: Drawable) -> str:
    """Draw D_LR and the participation ratio of every layer, in order of execution."""
    layers = drawable.layers or []
    ranks = [
        (place, layer.effective_rank.participation_ratio)
        for place, layer in enumerate(layers, 1)
        if layer.effective_rank is not None
    ]
    distances = [
        (place, layer.d_lr) for place, layer in enumerate(layers, 1) if layer.d_lr is not None
    ]
    distance_bars = [
        (place, *layer.confidence_interval.d_lr)
        for place, layer in enumerate(layers, 1)
        if layer.confidence_interval is not None and layer.confidence_interval.d_lr is not None
    ]
    rank_bars = [
        (place, *bounds)
        for place, layer in enumerate(layers, 1)
        if (bounds := _rank_interval(layer)) is not None
    ]
    along = _places(layers)
    highest = max((*(rank for _, rank in ranks), *(high for *_, high in rank_bars)), default=1.0)
    upper = Plot(along, shares(*_UPPER))
    lower = Plot(along, counts(highest, *_LOWER, most=4))
    title = _title(distances)
    return document(
        title,
        _description(layers),
        heading(title, drawable),
        upper.frame("", "D_LR"),
        lower.frame("layer, in order of execution", "effective rank"),
        upper.bars(distance_bars, "a"),
        upper.curve(distances, "a") if distances else remark(upper, "No layer's features vary."),
        lower.bars(rank_bars, "b"),
        *([lower.curve(ranks, "b")] if ranks else []),
    )


def _rank_interval(layer: Layer) -> tuple[float, float] | None:
    ranks = layer.effective_rank
    if ranks is None or ranks.confidence_interval is None:
        return None
    return ranks.confidence_interval.participation_ratio


def _places(layers: list[Layer]) -> Scale:
    """Spread the layers over the axis; few of them with their names, many with numbers."""
    count = max(len(layers), 1)
    if len(layers) <= _MOST_NAMES:
        room = int((RIGHT - LEFT) / count / _CHARACTER)
        names = [(place, shortened(layer.name, room)) for place, layer in enumerate(layers, 1)]
    else:
        step = _round_step(count / _MOST_NUMBERS)
        names = [(place, str(place)) for place in range(1, count + 1) if place % step == 0]
    ticks = tuple((float(place), name) for place, name in names)
    return Scale(0.5, count + 0.5, LEFT, RIGHT, ticks)


def _round_step(least: float) -> int:
    steps = (int(factor * 10**decade) for decade in range(5) for factor in (1, 2, 5))
    return next(step for step in steps if step >= least)


def _title(distances: list[tuple[int, float]]) -> str:
    if len(distances) <= 1:
        return "Where the network becomes minimal"
    return f"From layer to layer D_LR goes from {distances[0][1]:.2f} to {distances[-1][1]:.2f}"


def _description(layers: list[Layer]) -> str:
    about = (
        "Low-rank measure D_LR, 0 for minimal and 1 for lazy, and participation ratio of the "
        "centred spectrum, of each layer in order of execution; bars are 95 % intervals."
    )
    sentences = [about]
    for place, layer in enumerate(layers[:_MOST_DESCRIBED], 1):
        d_lr = "undefined" if layer.d_lr is None else f"{layer.d_lr:.2f}"
        ranks = layer.effective_rank
        rank = "undefined" if ranks is None else f"{ranks.participation_ratio:.1f}"
        sentences.append(f"Layer {place}, {layer.name}: D_LR {d_lr}, effective rank {rank}.")
    if len(layers) > _MOST_DESCRIBED:
        sentences.append(f"And {len(layers) - _MOST_DESCRIBED} more.")
    return " ".join(sentences)
