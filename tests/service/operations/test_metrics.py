import re

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.orm import Session
from support import ServedApi, live_worker

from service.contract.security_events import SecurityEvent
from service.guide.routes import render
from service.tables.security import Event, Quarantine

pytestmark = pytest.mark.xdist_group("migrations")

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(api: ServedApi) -> Samples:
    with api.http() as http:
        answer = http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def of(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"phiscope_{name}", frozenset(labels.items())]


def test_every_figure_is_there_from_the_start(api: ServedApi) -> None:
    samples = scrape(api)
    for event in SecurityEvent:
        assert of(samples, "security_events_total", event=event) == 0
    assert of(samples, "quarantined_files") == 0
    for device in ("cpu", "cuda"):
        for landlock in ("enforced", "absent"):
            assert of(samples, "workers", device=device, landlock=landlock) == 0


def test_figures_are_what_the_database_holds(api: ServedApi) -> None:
    with Session(api.engine) as session, session.begin():
        for what in (SecurityEvent.CRASHED, SecurityEvent.CRASHED, SecurityEvent.QUARANTINED):
            session.add(Event(event=what, digests={}, message=""))
        session.add(Quarantine(sha256="a" * 64, strikes=3, reason=""))
        for name, landlock in (("a:1", 7), ("b:1", 7), ("c:1", 0)):
            session.add(live_worker(name, landlock))
    samples = scrape(api)
    assert of(samples, "security_events_total", event="crashed") == 2
    assert of(samples, "security_events_total", event="quarantined") == 1
    assert of(samples, "security_events_total", event="released") == 0
    assert of(samples, "quarantined_files") == 1
    assert of(samples, "workers", device="cpu", landlock="enforced") == 2
    assert of(samples, "workers", device="cpu", landlock="absent") == 1


def test_whoever_accepts_it_gets_openmetrics(api: ServedApi) -> None:
    with api.http() as http:
        answer = http.get("/metrics", headers={"Accept": "application/openmetrics-text"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_the_guide_documents_every_figure(api: ServedApi) -> None:
    with api.http() as http:
        names = set(re.findall(r"^# TYPE (\w+)", http.get("/metrics").text, re.MULTILINE))
    assert names
    page = render("operations")
    assert [name for name in sorted(names) if name not in page] == []
