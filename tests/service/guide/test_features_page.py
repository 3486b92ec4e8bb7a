"""The page that teaches: its pictures, the fields it names, and the example to do by hand."""

import re
import xml.etree.ElementTree as ET
from importlib.resources import files
from typing import Any, get_args

import httpx
import pytest
import torch
from pydantic import BaseModel
from samples import diagnosed

from service.charts.svg import STYLE
from service.guide.routes import PAGES, render
from service.report.document import Report
from workers.diagnostics import Moments

pytestmark = pytest.mark.xdist_group("stack")

PICTURES = {
    picture.name: picture for picture in files("service.guide").joinpath("pictures").iterdir()
}


def shown_on(page: str) -> list[tuple[str, str]]:
    return re.findall(r'<img src="/guide/pictures/([^"]+)" alt="([^"]+)"', render(page))


def test_every_picture_is_shown_on_its_page_and_no_other() -> None:
    reproduced = {name for name in PICTURES if name.startswith("reproduction-")}
    assert {name for name, _ in shown_on("reproduction")} == reproduced
    assert {name for name, _ in shown_on("features")} == set(PICTURES) - reproduced


def test_pictures_of_reports_are_told_apart_and_up_to_date() -> None:
    shown = shown_on("features")
    assert len({alternative for _, alternative in shown}) == len(shown)
    for name, _ in shown:
        root = ET.fromstring(PICTURES[name].read_text("utf-8"))  # noqa: S314 - our own
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert root.get("role") == "img"
        # Else they are of an older version: python -m tests.pictures makes them anew.
        assert (root.findtext("{http://www.w3.org/2000/svg}style") or "") == STYLE


def test_pictures_are_served(http: httpx.Client) -> None:
    for name, picture in PICTURES.items():
        response = http.get(f"/guide/pictures/{name}")
        assert response.content == picture.read_bytes()
        assert response.headers["content-type"].startswith("image/svg+xml")
        assert "style-src 'unsafe-inline'" in response.headers["content-security-policy"]
    assert http.get("/guide/pictures/nothing.svg").status_code == 404
    assert http.get("/guide/pictures/..%2Fpages%2Findex.md.svg").status_code == 404


def fields(part: type[BaseModel], path: str = "") -> set[str]:
    """All fields of a report, as `verdict.minimality.rank`."""
    found = set()
    for name, field in part.model_fields.items():
        found.add(f"{path}{name}")
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found |= fields(kind, f"{path}{name}.")
    return found


@pytest.mark.parametrize("page", ["features", "report"])
def test_fields_that_a_page_names_are_in_the_report(page: str) -> None:
    there = fields(Report)
    parts = "|".join(Report.model_fields)
    named = re.findall(rf"`((?:{parts})\.[a-z0-9_.]+)`", PAGES[page].markdown())
    assert len(named) > 4
    artifacts = {"spectrum.csv"}
    assert set(named) - there - artifacts == set()


def by_hand(output: int) -> Any:
    """Judge the page's example, each of its four inputs given often enough for folds."""
    phi = torch.tensor([[2.0, 1], [2, -1], [-2, 1], [-2, -1]])
    outputs = phi[:, [output]]
    fold = Moments.zeros(2, 1)
    fold.update(phi.repeat(30, 1), outputs.repeat(30, 1))
    return diagnosed([fold, fold], task="regression")


@pytest.mark.parametrize(("output", "utilization", "distance"), [(0, 1.0, 0.03), (1, 0.0, 0.76)])
def test_the_example_comes_out_as_it_does_by_hand(
    output: int, utilization: float, distance: float
) -> None:
    diagnosis = by_hand(output)
    assert diagnosis.spectrum.eigenvalues.tolist() == pytest.approx([4, 1])
    assert diagnosis.projections.utilization.tolist() == pytest.approx([1 - output, output])
    figures = diagnosis.verdict.minimality
    assert (figures.rank, figures.utilization) == (1, pytest.approx(utilization, abs=1e-9))
    assert figures.energy == pytest.approx(4 / 5)
    assert figures.distance == pytest.approx(distance, abs=0.005)
    assert f"= {distance}" in PAGES["features"].markdown()
