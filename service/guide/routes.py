"""HTTP for the guide and the interactive API reference. Works without internet."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt

from service.charts.svg import HEADERS as CHART_HEADERS
from service.charts.svg import MEDIA_TYPE
from service.guide import generated
from service.http.etags import respond
from service.http.problems import NotFound

STATIC = Path(str(files("service"))) / "static"

router = APIRouter(include_in_schema=False)

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
# Swagger UI writes styles into its elements, and asks this API.
_DOCS_HEADERS = _HEADERS | {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'; "
    "base-uri 'none'"
}
_ANCHOR = re.compile(r"<h(\d)>(.*?) \{#([\w.*]+)\}</h\1>")


def _written(name: str) -> Callable[[], str]:
    return lambda: files("service.guide").joinpath(f"pages/{name}.md").read_text("utf-8")


@dataclass(frozen=True)
class _Page:
    title: str
    markdown: Callable[[], str]


PAGES: dict[str, _Page] = {
    "index": _Page("Guide", _written("index")),
    "features": _Page("What a network has learned", _written("features")),
    "models": _Page("Will my model work?", generated.models),
    "labels": _Page("What the labels mean", _written("labels")),
    "data": _Page("Will my data work?", generated.data),
    "report": _Page("Reading a report", _written("report")),
    "inspection": _Page("Looking into a model", _written("inspection")),
    "security": _Page("When a model means harm", _written("security")),
    "gpu": _Page("On a GPU", _written("gpu")),
    "operations": _Page("Watching over it", _written("operations")),
    "reproduction": _Page("What the paper found, reproduced", _written("reproduction")),
    "metrics": _Page("What every figure means", generated.metric_cards),
    "failures": _Page("Why an analysis failed", generated.failures),
    "problems": _Page("Errors of the API", generated.problems),
    "settings": _Page("Settings", generated.settings),
    "developers": _Page("For those who change it", _written("developers")),
}


@cache
def _environment() -> Environment:
    return Environment(loader=PackageLoader("service"), autoescape=True, undefined=StrictUndefined)


@cache
def render(name: str) -> str:
    """Render a page of the guide as HTML. Nothing in it changes while the process lives."""
    page = PAGES[name]
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(page.markdown())
    return (
        _environment()
        .get_template("guide.html")
        .render(
            title=page.title,
            body=_ANCHOR.sub(r'<h\1 id="\3">\2</h\1>', body),
            pages={key: other.title for key, other in PAGES.items()},
            current=name,
        )
    )


@router.get("/guide")
async def guide_index() -> HTMLResponse:
    """Show the guide's first page."""
    return HTMLResponse(render("index"), headers=_HEADERS)


@router.get("/guide/pictures/{name}.svg")
async def guide_picture(name: str, request: Request) -> Response:
    """Show a picture of the guide."""
    there = {
        picture.name: picture for picture in files("service.guide").joinpath("pictures").iterdir()
    }
    if f"{name}.svg" not in there:
        raise NotFound(f"The guide has no picture {name!r}; it has {', '.join(sorted(there))}.")
    content = there[f"{name}.svg"].read_bytes()
    return respond(
        request,
        content,
        media_type=MEDIA_TYPE,
        etag=hashlib.sha256(content).hexdigest(),
        headers={**CHART_HEADERS, "Cache-Control": "no-cache"},
    )


@router.get("/guide/{name}")
async def guide_page(name: str) -> HTMLResponse:
    """Show a page of the guide."""
    if name not in PAGES:
        raise NotFound(f"The guide has no page {name!r}; it has {', '.join(PAGES)}.")
    return HTMLResponse(render(name), headers=_HEADERS)


@router.get("/docs")
async def interactive_reference(request: Request) -> HTMLResponse:
    """Show the API reference, to read and to try."""
    page = _environment().get_template("docs.html").render(title=request.app.title)
    return HTMLResponse(page, headers=_DOCS_HEADERS)
