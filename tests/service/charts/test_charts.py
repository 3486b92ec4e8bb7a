import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from service.charts.axes import counts, linear, ratios, shares, thinned
from service.charts.layout import BOTTOM, LEFT, RIGHT, TOP, percent
from service.charts.reading import Drawable, Interval
from service.charts.service import CHARTS
from service.charts.svg import HEIGHT, WIDTH
from service.report.document import Report

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "<script>alert('x')</script>\"&amp;\x00\x1b\u202e\ud800]]>"
MOST_POINTS = 4 * math.ceil((RIGHT - LEFT) / 4)


def document(
    relative: list[float],
    centered: list[float],
    *,
    r: int = 2,
    quality: bool = True,
    figures: float | None = 0.5,
) -> dict[str, Any]:
    """The part of a report that is drawn; its cumulative curves rise evenly to 1."""
    rising = [k / len(centered) for k in range(1, len(centered) + 1)]
    interval = None if figures is None else (figures - 0.1, figures + 0.1)
    names = ("utilization_corrected", "energy", "distance")
    return {
        "model": {"name": "net", "run": "run", "step": 3},
        "probe": {"name": "digits", "version": 1, "n": 500},
        "spectrum": {"relative": relative, "centered": {"relative": centered}},
        "projections": {
            "centered": {
                "cumulative_utilization": rising,
                "cumulative_quality": [each / 2 for each in rising] if quality else None,
                "quality_chance_level": [each / 10 for each in rising] if quality else None,
            }
        },
        "verdict": {
            "regime": "undetermined",
            "rule": "UED-1",
            "minimality": {"rank": r, **dict.fromkeys(names, figures)},
            "confidence_interval": dict.fromkeys(names, interval),
            "reasons": ["U' = 0.5.", "An interval reaches into the band between the regimes."],
            "thresholds": {
                "mf_utilization": 0.88,
                "mf_energy": 0.755,
                "mf_distance": 0.12,
                "ef_utilization": 0.84,
                "ef_energy": 0.715,
                "ef_distance": 0.20,
            },
        },
    }


def falling(length: int) -> list[float]:
    return [1 / k**2 for k in range(1, length + 1)]


def layer(
    name: str,
    d_lr: float | None,
    rank: float | None,
    intervals: tuple[Interval | None, Interval | None] | None = None,
) -> dict[str, Any]:
    """With intervals of D_LR and of the rank, if there are any."""
    ranks: dict[str, Any] | None = None
    if rank is not None:
        ranks = {"participation_ratio": rank, "stable": 1.0}
        if intervals is not None:
            ranks["confidence_interval"] = {"participation_ratio": intervals[1], "stable": None}
    bounds = None if intervals is None else {"d_lr": intervals[0], "cka_target": None}
    return {"name": name, "d_lr": d_lr, "effective_rank": ranks, "confidence_interval": bounds}


def bounds(least: float, most: float) -> st.SearchStrategy[Interval | None]:
    pairs = st.tuples(st.floats(least, most), st.floats(least, most))
    return st.none() | pairs.map(lambda pair: (min(pair), max(pair)))


def ordinary(**changes: Any) -> dict[str, Any]:
    return document(falling(64), falling(63), r=9) | changes


def draw(name: str, report: dict[str, Any]) -> ET.Element:
    """Draw a chart, and parse it as strictly as browsers do."""
    return ET.fromstring(CHARTS[name].draw(Drawable.model_validate(report)))  # noqa: S314 - our own


# -- what holds for every picture ------------------------------------------------------------

compression_points = st.lists(
    st.builds(
        dict,
        k=st.integers(0, 5000),
        accuracy=st.none() | st.floats(0, 1),
        agreement=st.none() | st.floats(0, 1),
        output_error=st.none() | st.floats(0, 3),
    ),
    max_size=40,
).map(lambda points: sorted(points, key=lambda point: int(point["k"])))
layer_lists = st.lists(
    st.builds(
        layer,
        st.text(max_size=60),
        st.none() | st.floats(0, 1),
        st.none() | st.floats(1, 5000),
        st.none() | st.tuples(bounds(0, 1), bounds(1, 5000)),
    ),
    max_size=60,
)


@st.composite
def reports(draw: st.DrawFn) -> dict[str, Any]:
    """Reports as bad as the schema allows."""

    def spectrum() -> list[float]:
        values = draw(st.lists(st.floats(0, 1), max_size=50))
        return sorted(values, reverse=True)

    report = document(
        [1.0, *spectrum()],
        spectrum(),
        r=draw(st.integers(0, 60)),
        quality=draw(st.booleans()),
        figures=draw(st.none() | st.floats(-3, 1)),
    )
    report["model"]["name"] = draw(st.text(min_size=1, max_size=400))
    report["verdict"]["reasons"] = draw(st.lists(st.text(min_size=1), min_size=1))
    report["compression"] = draw(st.none() | compression_points)
    report["layers"] = draw(st.none() | layer_lists)
    return report


@pytest.mark.parametrize("name", CHARTS)
@settings(max_examples=30, deadline=None)
@given(report=reports())
def test_whatever_a_report_says_the_picture_is_well_formed(
    name: str, report: dict[str, Any]
) -> None:
    picture = draw(name, report)
    assert picture.get("role") == "img"
    assert picture.findtext(f"{SVG}title")
    assert picture.findtext(f"{SVG}desc")
    for x, y in places(picture):
        assert 0 <= x <= WIDTH
        assert 0 <= y <= HEIGHT
    assert all(path.get("d", "").count("L") < MOST_POINTS for path in picture.iter(f"{SVG}path"))


def places(picture: ET.Element) -> Iterator[tuple[float, float]]:
    for path in picture.iter(f"{SVG}path"):
        yield from points_of(path)
    for tag, x, y in (("text", "x", "y"), ("circle", "cx", "cy"), ("rect", "x", "y")):
        for each in picture.iter(f"{SVG}{tag}"):
            yield float(each.get(x, 0)), float(each.get(y, 0))
    for each in picture.iter(f"{SVG}line"):
        yield float(each.get("x1", "nan")), float(each.get("y1", "nan"))
        yield float(each.get("x2", "nan")), float(each.get("y2", "nan"))


def points_of(path: ET.Element) -> list[tuple[float, float]]:
    numbers = [float(each) for each in re.findall(r"-?[\d.]+", path.get("d", ""))]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


@dataclass(frozen=True)
class Box:
    """What a text covers, by a wide estimate of its characters."""

    text: str
    left: float
    right: float
    top: float
    bottom: float

    def overlaps(self, other: "Box") -> bool:
        beside = self.right <= other.left or other.right <= self.left
        return not (beside or self.bottom <= other.top or other.bottom <= self.top)


def boxes(picture: ET.Element, *, narrow: bool) -> list[Box]:
    size = {"title": 21, "big": 19, "": 17} if narrow else {"title": 17, "big": 16, "": 13}
    found = []
    for group in picture.iter():
        for each in group.findall(f"{SVG}text"):
            classes = (each.get("class") or "").split()
            if ("wide" if narrow else "narrow") in classes or group.get("transform"):
                continue
            content, x, y = each.text or "", float(each.get("x", 0)), float(each.get("y", 0))
            height = next((size[name] for name in classes if name in size), size[""])
            width = 0.55 * height * len(content)
            left = x - width * ("end" in classes) - width / 2 * ("middle" in classes)
            found.append(Box(content, left, left + width, y - 0.75 * height, y + 0.2 * height))
    return found


LAYERS = [layer(f"encoder.layer{place}.conv", 0.9 - place / 10, 4.0 + place) for place in range(6)]
COMPRESSION = [
    {"k": k, "accuracy": 0.9, "agreement": 1 - 0.5 / k, "output_error": 0.5 / k}
    for k in (1, 2, 4, 8, 16, 32, 63)
]
DRAWN = {
    "ordinary": ordinary(layers=LAYERS, compression=COMPRESSION),
    "wide": document(falling(9000), falling(9000), r=999) | {"layers": LAYERS * 100},
    "steep": document([10.0**-k for k in range(14)], [10.0**-k for k in range(14)], r=1),
    "rank one": document([1.0], [1.0], r=1),
    "features that do not vary": document([1.0], [], r=0, figures=None),
    "no targets": document(falling(64), falling(63), quality=False),
    "below chance": document(falling(64), falling(63), figures=-0.8),
    "undefined": document(falling(64), falling(63), figures=None),
    "no layer varies": ordinary(layers=[layer("a", None, None), layer("b", None, None)]),
    "regression": ordinary(
        compression=[{**each, "accuracy": None, "agreement": None} for each in COMPRESSION]
    ),
}


@pytest.mark.parametrize("narrow", [False, True], ids=["on a screen", "on a phone"])
@pytest.mark.parametrize("report", DRAWN.values(), ids=DRAWN)
@pytest.mark.parametrize("name", CHARTS)
def test_no_label_covers_another_or_leaves_the_picture(
    name: str, report: dict[str, Any], narrow: bool
) -> None:
    written = boxes(draw(name, report), narrow=narrow)
    assert [(a.text, b.text) for a, b in combinations(written, 2) if a.overlaps(b)] == []
    assert [box for box in written if box.left < 0 or box.right > WIDTH] == []
    assert [box for box in written if box.top < 0 or box.bottom > HEIGHT] == []


@pytest.mark.parametrize("name", CHARTS)
def test_names_that_strangers_chose_are_text_and_nothing_else(name: str) -> None:
    report = ordinary(layers=[layer(HOSTILE, 0.5, 2.0)] * 3)
    report["model"] = {"name": HOSTILE, "run": HOSTILE, "step": 1}
    report["probe"]["name"] = HOSTILE
    report["verdict"]["reasons"] = [HOSTILE]
    markup = CHARTS[name].draw(Drawable.model_validate(report))
    assert "<script" not in markup
    picture = draw(name, report)
    assert {each.tag.removeprefix(SVG) for each in picture.iter()} <= {
        *("svg", "title", "desc", "style", "g", "text", "line", "path", "rect", "circle"),
        "polygon",
    }
    written = "".join(picture.itertext())
    assert "<script>alert('x')" in written
    assert not set("\x00\x1b\u202e\ud800") & set(written)
    assert not re.search(r"\son\w+=|href|url\(|@import", markup)


def test_a_long_name_is_cut_and_one_of_east_asia_twice_as_early() -> None:
    for name, kept in (("m" * 400, 34), ("網" * 400, 17)):
        report = ordinary()
        report["model"] = {"name": name, "run": None, "step": None}
        (written,) = [each for each in draw("spectrum", report).itertext() if " · " in each]
        assert written.startswith(name[: kept - 1] + "… ·")


# -- what each of them shows -----------------------------------------------------------------


def curve(picture: ET.Element, classes: str) -> list[tuple[float, float]]:
    (path,) = [
        each for each in picture.iter(f"{SVG}path") if each.get("class") == f"line {classes}"
    ]
    return points_of(path)


def test_the_spectrum_falls_straight_on_logarithmic_axes_where_it_is_a_power_law() -> None:
    places = curve(draw("spectrum", document(falling(100), falling(100))), "a")
    (left, top), (right, bottom) = places[0], places[-1]
    assert (left, top, right, bottom) == (LEFT, TOP, RIGHT, BOTTOM)
    slope = (bottom - top) / (right - left)
    assert all(abs(top + slope * (x - left) - y) < 0.2 for x, y in places)


def test_the_projections_end_where_the_figures_do() -> None:
    picture = draw("projections", document(falling(100), falling(100), r=10))
    height = BOTTOM - TOP
    for classes, last in (("a", 1.0), ("b", 0.5), ("c", 0.1)):
        x, y = curve(picture, classes)[-1]
        assert x == RIGHT
        assert y == pytest.approx(BOTTOM - last * height, abs=0.06)
    texts = list(picture.itertext())
    assert "The first 10: 10 % of outputs, 5 % of target" in texts
    assert "r = 10" in texts


def test_compression_says_with_how_many_the_answers_stay() -> None:
    assert "63 of 63 eigenfunctions keep 99 % of answers" in list(
        draw("compression", DRAWN["ordinary"]).itertext()
    )
    assert "63 of 63 eigenfunctions keep the outputs within 1 %" in list(
        draw("compression", DRAWN["regression"]).itertext()
    )


def test_the_verdict_puts_each_figure_into_its_zone() -> None:
    report = ordinary()
    report["verdict"]["minimality"] |= {
        "utilization_corrected": 0.95,
        "energy": 0.5,
        "distance": 0.05,
    }
    picture = draw("verdict", report)
    dots = [float(each.get("cx", 0)) for each in picture.iter(f"{SVG}circle")]
    zones = {
        regime: [
            (float(each.get("x", 0)), float(each.get("x", 0)) + float(each.get("width", 0)))
            for each in picture.iter(f"{SVG}rect")
            if each.get("class") == regime
        ]
        for regime in ("mf", "ef")
    }
    inside = [
        [regime for regime in zones if zones[regime][row][0] <= dots[row] <= zones[regime][row][1]]
        for row in range(3)
    ]
    assert inside == [["mf"], ["ef"], ["mf"]]
    assert "An interval reaches into the band between the regimes." in list(picture.itertext())


def test_each_rule_is_drawn_with_the_figure_that_it_judges() -> None:
    first, later = ordinary(), ordinary()
    later["verdict"]["rule"] = "UED-2"
    later["verdict"]["minimality"]["utilization_tapered"] = 0.7
    later["verdict"]["thresholds"]["ef_certain_distance"] = 0.4
    later["verdict"]["assessment"] = {"summary": "extended but accurate", "skill": 0.9}
    texts = [list(draw("verdict", report).itertext()) for report in (first, later)]
    assert ("U′" in texts[0], "0.500" in texts[0], "0.700" in texts[0]) == (True, True, False)
    assert {"Ũ′", "0.700", "undetermined: extended but accurate"} <= set(texts[1])
    shades = [len(list(draw("verdict", report).iter(f"{SVG}rect"))) for report in (first, later)]
    assert shades == [7, 8]


def test_layers_are_named_while_there_is_room_and_numbered_else() -> None:
    few = list(
        draw("layers", ordinary(layers=[layer("conv1", 0.8, 3), layer("fc", 0.1, 9)])).itertext()
    )
    assert {"conv1", "fc", "From layer to layer D_LR goes from 0.80 to 0.10"} <= set(few)
    many = list(draw("layers", ordinary(layers=LAYERS * 10)).itertext())
    assert {"5", "60"} <= set(many)


def test_layers_have_bars_where_they_have_intervals() -> None:
    layers = [
        layer("conv1", 0.8, 3, ((0.7, 0.9), (2.0, 4.0))),
        layer("conv2", 0.6, 3, ((0.5, 0.7), None)),
        layer("fc", 0.1, 9),
    ]
    drawn = draw("layers", ordinary(layers=layers))
    bars = [each for each in drawn.iter(f"{SVG}line") if "bar" in (each.get("class") or "")]
    assert [each.get("class") for each in bars] == ["bar a", "bar a", "bar b"]
    upper = [float(bars[0].attrib[name]) for name in ("y1", "y2")]
    place = shares(172, 76)
    assert upper == pytest.approx([place(0.7), place(0.9)], abs=0.1)


# -- axes, lines and reading -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "ticks"),
    [
        (counts(128, 0, 1), ["1", "2", "5", "10", "20", "50", "100"]),
        (counts(3, 0, 1), ["1", "2", "5", "10"]),
        (counts(65_536, 0, 1), ["1", "10", "100", "1000", "10000"]),
        (counts(90, 0, 1, most=4), ["1", "10"]),
        (ratios(0.003, 0, 1), ["1", "0.1", "0.01", "10⁻³"]),
        (ratios(1e-12, 0, 1), ["1", "10⁻³", "10⁻⁶", "10⁻⁹", "10⁻¹²"]),
        (linear(-0.3, 1.0, 0, 1), ["−0.5", "0.0", "0.5", "1.0"]),
        (linear(0.0, 1.0, 0, 1), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
    ],
)
def test_ticks_are_round(scale: Any, ticks: list[str]) -> None:
    assert [name for _, name in scale.ticks] == ticks
    assert all(scale.low <= value <= scale.high for value, _ in scale.ticks)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=2000))
def test_a_thinned_line_keeps_its_ends_and_peaks(heights: list[float]) -> None:
    line = [(place / 7, height) for place, height in enumerate(heights)]
    kept = thinned(line)
    assert [point for point in line if point in set(kept)] == kept
    assert (kept[0], kept[-1]) == (line[0], line[-1])
    for extreme in (min, max):
        assert extreme(y for _, y in kept) == extreme(heights)
    assert len(kept) <= 4 * (math.floor(line[-1][0] / 4) + 1)


def test_almost_all_is_not_written_as_all() -> None:
    shares = (1.0, 0.9996, 0.9951, 0.994, 0.0)
    assert [percent(each) for each in shares] == ["100 %", "99.9 %", "99.5 %", "99 %", "0 %"]


def test_reports_hold_what_charts_read() -> None:
    """What a chart cannot do without is in every report; the rest may be missing."""

    def missing(read: type[BaseModel], written: type[BaseModel], path: str) -> Iterator[str]:
        for name, field in read.model_fields.items():
            if field.is_required() and name not in written.model_fields:
                yield f"{path}{name}"
            elif name in written.model_fields:
                parts = model_in(field.annotation), model_in(written.model_fields[name].annotation)
                if parts[0] is not None and parts[1] is not None:
                    yield from missing(parts[0], parts[1], f"{path}{name}.")

    assert list(missing(Drawable, Report, "")) == []


def model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(model_in, get_args(annotation))), None)
