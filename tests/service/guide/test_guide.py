import re

import httpx
import pytest
from support import Stack

from service.contract.failures import FailureCode
from service.guide.routes import PAGES, render
from service.http.problems import Problem
from service.platform.settings import Settings
from service.report.document import CARDS

pytestmark = pytest.mark.xdist_group("stack")


def test_every_figure_has_its_card_on_the_page() -> None:
    page = render("metrics")
    assert [key for key in CARDS if f'id="{key}"' not in page] == []


def test_every_problem_failure_and_setting_is_documented() -> None:
    problems, failures, settings = (render(page) for page in ("problems", "failures", "settings"))
    assert [k.code for k in Problem.__subclasses__() if f'id="{k.code}"' not in problems] == []
    assert [code for code in FailureCode if f"<code>{code}</code>" not in failures] == []
    names = [f"PHISCOPE_{name.upper()}" for name in Settings.model_fields]
    assert [name for name in names if name not in settings] == []


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_served_and_their_links_lead_somewhere(stack: Stack, page: str) -> None:
    with stack.http() as http:
        response = http.get("/guide" if page == "index" else f"/guide/{page}")
        assert response.status_code == 200
        assert "default-src 'none'" in response.headers["content-security-policy"]
        links = set(re.findall(r'(?:href|src)="(/[^"#]*)', response.text))
        assert [link for link in links if http.get(link).status_code != 200] == []


def test_a_page_that_is_not_there_is_not_found(http: httpx.Client) -> None:
    response = http.get("/guide/nothing")
    assert response.status_code == 404
    assert "metrics" in response.json()["detail"]


def test_the_reference_needs_no_internet(http: httpx.Client) -> None:
    page = http.get("/docs").text
    sources = re.findall(r'(?:href|src)="([^"]+)"', page)
    assert sources
    assert all(source.startswith("/") for source in sources)
    assert [source for source in sources if http.get(source).status_code != 200] == []


def test_health_names_each_dependency(http: httpx.Client) -> None:
    assert http.get("/livez").json() == {"status": "ok"}
    ready = http.get("/readyz")
    assert ready.status_code == 200
    assert {check["name"]: check["ok"] for check in ready.json()["checks"]} == {
        "database": True,
        "storage": True,
        "broker": True,
        "publication": True,
    }
