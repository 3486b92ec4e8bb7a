"""Well-formed SVG from parts: every text is escaped, every number short."""

import unicodedata
from collections.abc import Mapping
from html import escape
from typing import NewType

Fragment = NewType("Fragment", str)
"""Markup. Only `element` and `text` make it, so that no text gets in unescaped."""

MEDIA_TYPE = "image/svg+xml"
HEADERS = {
    # A drawing styles itself, and does nothing else: it holds names that strangers chose.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "X-Content-Type-Options": "nosniff",
}

WIDTH = 640
HEIGHT = 360

# Colours of series: Okabe and Ito's, which most colour-blind people tell apart, lightened on dark.
# Names of classes say what is drawn: a, b, c are series, mf and ef the zones of the regimes.
STYLE = """
.chart{max-width:100%;height:auto}
text{font:13px system-ui,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;fill:#1c2430}
.title{font-size:17px;font-weight:600}
.big{font-size:16px;font-weight:600}
.soft{fill:#566070}
.end{text-anchor:end}
.middle{text-anchor:middle}
.page{fill:#fff}
.line{fill:none;stroke-width:2.2;stroke-linejoin:round;stroke-linecap:round}
.grid{stroke:#e3e7ed}
.frame{stroke:#8a93a0}
.r{stroke:#1c2430;stroke-width:1.2;stroke-dasharray:2 3}
.a{stroke:#0072b2}.mark.a{fill:#0072b2}
.b{stroke:#c25400}.mark.b{fill:#fff}
.c{stroke:#00805c}.mark.c{fill:#fff}
.b.line{stroke-dasharray:8 4}
.c.line{stroke-dasharray:2 4.5}
.mark{stroke-width:1.8}
.bar{stroke-width:5;stroke-opacity:.32}
.mf{fill:#0072b2;fill-opacity:.15}
.ef{fill:#e69f00;fill-opacity:.22}
.narrow{display:none}
@media (max-width:480px){
text{font-size:17px}.title{font-size:21px}.big{font-size:19px}
.wide{display:none}.narrow{display:inline}
}
@media (prefers-color-scheme:dark){
text{fill:#e3e8ef}.soft{fill:#a3aebb}
.page{fill:#12171e}.grid{stroke:#2a323d}.frame{stroke:#6d7885}.r{stroke:#e3e8ef}
.a{stroke:#5cb8f2}.mark.a{fill:#5cb8f2}
.b{stroke:#f2a04a}.mark.b{fill:#12171e}
.c{stroke:#45cf9f}.mark.c{fill:#12171e}
.mf{fill:#5cb8f2;fill-opacity:.22}.ef{fill:#f2a04a;fill-opacity:.2}
}
"""


def text(content: str) -> Fragment:
    """Escape a text, and take out what XML forbids and what would turn its direction."""
    return Fragment(
        escape("".join("\ufffd" if _is_control(each) else each for each in content), quote=True)
    )


def _is_control(character: str) -> bool:
    return unicodedata.category(character).startswith("C")


def element(
    tag: str, attributes: Mapping[str, str | float] | None = None, *children: Fragment
) -> Fragment:
    """Write an element; numbers are rounded to a tenth of a pixel."""
    written = "".join(f' {name}="{_value(value)}"' for name, value in (attributes or {}).items())
    if not children:
        return Fragment(f"<{tag}{written}/>")
    return Fragment(f"<{tag}{written}>{''.join(children)}</{tag}>")


def _value(value: str | float) -> str:
    return text(value) if isinstance(value, str) else number(value)


def number(value: float) -> str:
    """Write a coordinate."""
    return f"{value:.1f}".removesuffix(".0")


def label(x: float, y: float, content: str, classes: str = "") -> Fragment:
    """Write a text at a place; its classes say how it is set and to which side it extends."""
    attributes: dict[str, str | float] = {"x": x, "y": y}
    if classes:
        attributes["class"] = classes
    return element("text", attributes, text(content))


def line(x1: float, y1: float, x2: float, y2: float, classes: str) -> Fragment:
    """Draw a straight line."""
    return element("line", {"x1": x1, "y1": y1, "x2": x2, "y2": y2, "class": classes})


def document(title: str, description: str, *children: Fragment) -> str:
    """Finish a drawing.

    Args:
        title: Its name, for those who cannot see it.
        description: What it shows, in sentences with figures.
        children: What is drawn.
    """
    page = element("rect", {"width": WIDTH, "height": HEIGHT, "class": "page"})
    return element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {WIDTH} {HEIGHT}",
            "width": WIDTH,
            "height": HEIGHT,
            "class": "chart",
            "role": "img",
            "aria-labelledby": "title description",
        },
        element("title", {"id": "title"}, text(title)),
        element("desc", {"id": "description"}, text(description)),
        element("style", None, Fragment(STYLE)),
        page,
        *children,
    )
