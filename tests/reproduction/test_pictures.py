from xml.etree import ElementTree as ET

import pytest

from reproduction.pictures import Dot, dots, lines

SVG = "{http://www.w3.org/2000/svg}"


def read(picture: str) -> ET.Element:
    return ET.fromstring(picture)  # noqa: S314 - we have just written it


def test_lines_are_drawn_to_scale_and_named() -> None:
    root = read(lines("a < b", "epoch", {"one": [(0, 0.5), (8, 1.0)], "two": [(2, 0.0)]}))
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert {"a < b", "epoch", "one", "two", "0", "2", "8"} <= set(texts)
    paths = [path.get("d", "") for path in root.iter(f"{SVG}path")]
    (line,) = (path for path in paths if path.count("L") == 1)
    (x1, y1), (x2, y2) = (map(float, point.split()) for point in line[1:].split("L"))
    grid = sorted({float(path[1:].split("h")[0].split()[1]) for path in paths if "h440" in path})
    assert (x1, x2 - x1) == (60, 440)
    assert y2 == grid[0]
    assert y1 == pytest.approx((grid[0] + grid[-1]) / 2, abs=0.1)


def test_dots_show_value_interval_and_bounds() -> None:
    root = read(dots("U'", [Dot("net", 0.5, 0.4, 0.6, filled=True)], [0.88]))
    (circle,) = root.iter(f"{SVG}circle")
    paths = [path.get("d", "") for path in root.iter(f"{SVG}path")]
    (interval,) = (path for path in paths if "H" in path)
    low, high = (float(part) for part in interval.removeprefix("M").replace("H", " ").split()[::2])
    assert float(circle.get("cx", "")) == pytest.approx((low + high) / 2, abs=0.1)
    assert sum(path.get("stroke-dasharray") is not None for path in root.iter(f"{SVG}path")) == 1
