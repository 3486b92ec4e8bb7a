"""The page for developers is held against the code."""

import re
from importlib.resources import files
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = files("service.guide").joinpath("pages/developers.md").read_text("utf-8")
QUOTED = set(re.findall(r"`([^`\n]+)`", PAGE))
PATHS = sorted(
    each
    for each in QUOTED
    if re.fullmatch(r"(?:service|workers|tests|migrations|\.ci)/[\w./]+", each)
)
ROOMS = sorted(
    path.parent.name
    for house in ("service", "workers")
    for path in (ROOT / house).glob("*/__init__.py")
)


def test_there_are_paths() -> None:
    assert len(PATHS) > 30


@pytest.mark.parametrize("path", PATHS)
def test_what_it_names_is_there(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("room", ROOMS)
def test_each_room_is_on_the_map(room: str) -> None:
    (drawing,) = re.findall(r"```\n(service\n.*?)```", PAGE, re.DOTALL)
    # Names stand on the left, what they are for on the right.
    names = " ".join(line[:38] for line in drawing.splitlines())
    assert re.search(rf"\b{room}\b", names)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("workers/diagnostics/measures.py", "GROUPS"),
        ("service/tables/queue.py", "def enqueue"),
        ("service/tables/jobs.py", "class JobKind"),
        ("service/contract/probe_spec.py", "ProbeFormat ="),
        ("service/guide/routes.py", "PAGES"),
        ("workers/protocol/arguments.py", "class AnalysisArguments"),
        ("workers/diagnostics/alignment.py", "def alignments"),
        ("service/report/alignment.py", "class Alignments"),
    ],
)
def test_names_stand_where_it_says(path: str, name: str) -> None:
    assert name in (ROOT / path).read_text()
