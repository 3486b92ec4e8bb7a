"""Whatever is wrong with a request is told in names and words that a client knows."""

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any, get_args

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, ValidationError

from service.analyses.schemas import AnalysisCreate, AnalysisQuery
from service.contract.validation import ValidationIssue, issues_of
from service.http import problems
from service.http.pagination import PageQuery
from service.models.schemas import ModelFields, ModelQuery
from service.probes.schemas import ProbeByUri, ProbeFields, ProbeQuery

MODEL_ID = "0192c1d0-0000-7000-8000-000000000000"
SPEC = {"input": "x", "target": "y", "task": "classification", "transform": {"scale": 0.5}}
GOOD: dict[type[BaseModel], dict[str, Any]] = {
    AnalysisCreate: {
        "model": MODEL_ID,
        "probe": "p",
        "options": {
            "batch_size": 4,
            "layers": "all",
            "seed": 1,
            "feature_map": {"output": 1},
            "eval_probe": "p",
        },
        "priority": "low",
        "webhook_url": None,
    },
    AnalysisQuery: {"limit": 3, "status": "queued", "model": MODEL_ID, "regime": "MF"},
    ModelFields: {"name": "m", "run": "r", "step": 3, "metadata": "{}"},
    ModelQuery: {"limit": 3, "name": "m", "run": "r", "sha256": "0" * 64},
    ProbeFields: {"name": "p", "spec": json.dumps(SPEC)},
    ProbeByUri: {"name": "p", "uri": "file:///x", "spec": SPEC},
    ProbeQuery: {"limit": 3, "name": "p", "status": "ready"},
}  # fmt: skip
WRONG: tuple[Any, ...] = (
    *(None, 3, -1, 1.5, float("nan"), 10**30, True, "", "x", "x" * 5000, "\0", "NaN", "[1]", "{"),
    *([], [1], ["a", 3], [[]], [None] * 9999, {}, {"zzz": 1}, {"scale": "x"}, {"output": []}),
    *([{"scale": -1}], {"transform": [{"std": ["x", 0]}]}, {"input": [3, {}]}, {"mean": []}),
    *({"transform": {"dtype": "int64", "scale": 2}}, {"layout": "NHWC"}),
    {"module": "a", "output": {}},
)  # fmt: skip
INTERNAL = re.compile(
    r"function-|constrained|literal\[|list\[|Json|nullable|Input should|Extra inputs|dictionary"
    r"|instance of|Value error|validation error|_is_|valid integer"
    r"|None\b|True|pydantic|something else"
)


def wrong_inputs(document: Any, path: tuple[Any, ...] = ()) -> Iterator[Any]:
    """The document with something wrong at each place, or with a place left out or added."""
    yield from (value for value in WRONG if value != document)
    if isinstance(document, dict):
        for key, value in document.items():
            yield {name: each for name, each in document.items() if name != key}
            for changed in wrong_inputs(value, (*path, key)):
                yield {**document, key: changed}
        yield {**document, "Zzz-Z": 1}
    if isinstance(document, str) and document.startswith("{"):
        yield from (json.dumps(changed) for changed in wrong_inputs(json.loads(document)))


def keys_in(document: Any) -> Iterator[str]:
    for each in document if isinstance(document, list) else [document]:
        if isinstance(each, dict):
            yield from each
            for value in each.values():
                yield from keys_in(value)


def names_of(kind: type[BaseModel]) -> set[str]:
    """The names of all fields, at any depth."""
    found: set[str] = set()
    waiting: list[Any] = [kind]
    while waiting:
        each = waiting.pop()
        if isinstance(each, type) and issubclass(each, BaseModel):
            found |= set(each.model_fields)
            waiting += [field.annotation for field in each.model_fields.values()]
            waiting += [m for field in each.model_fields.values() for m in field.metadata]
        waiting += get_args(each)
    return found


def told(kind: type[BaseModel], document: Any) -> list[ValidationIssue]:
    try:
        kind.model_validate(document)
    except ValidationError as error:
        return issues_of(error.errors())
    return []


@pytest.mark.parametrize("kind", GOOD, ids=lambda kind: kind.__name__)
def test_no_wrong_input_shows_how_the_schema_is_written(kind: type[BaseModel]) -> None:
    assert told(kind, GOOD[kind]) == []
    known = names_of(kind) | set(keys_in([*WRONG, GOOD[kind]])) | {"Zzz-Z"}
    count = 0
    for document in wrong_inputs(GOOD[kind]):
        issues = told(kind, document)
        count += bool(issues)
        assert len({issue.location for issue in issues}) == len(issues)
        for issue in issues:
            assert not INTERNAL.search(f"{issue.location} {issue.message}"), (document, issue)
            parts = issue.location.split(".") if issue.location else []
            assert all(part.isdigit() or part in known for part in parts), (document, issue)
            assert len(issue.message) < 600
    assert count > 50


@pytest.mark.parametrize(
    ("options", "location", "message"),
    [
        ({"batch_size": "x"}, "batch_size", "expected a whole number or 'auto'; got 'x'"),
        ({"batch_size": 0}, "batch_size", "expected at least 1 or 'auto'; got 0"),
        ({"device": "tpu"}, "device", "expected 'auto', 'cpu' or 'cuda'; got 'tpu'"),
        ({"device": None}, "device", "expected 'auto', 'cpu' or 'cuda'; got null"),
        ({"feature_map": 3}, "feature_map", "expected a JSON object or 'auto'; got 3"),
        ({"feature_map": {"modul": "a"}}, "feature_map.modul", "unknown key"),
        ({"feature_map": {"output": []}}, "feature_map.output", "expected a text or"),
        ({"feature_map": {}}, "feature_map", "names nothing; expected output, module"),
        ([], "", "expected a JSON object; got a list of 0"),
    ],
)  # fmt: skip
def test_what_is_expected_is_said_once_for_each_place(
    options: Any, location: str, message: str
) -> None:
    (issue,) = told(AnalysisCreate, {"model": MODEL_ID, "probe": "p", "options": options})
    assert issue.location == ".".join(filter(None, ("options", location)))
    assert issue.message.startswith(message)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"class_names": ["a", "a"]}, "class_names holds the same entry twice; expected distinct"),
        ({"columns": ["a"], "exclude": ["b"]}, "columns and exclude are both given; expected one"),
        ({"columns": ["a", "a"]}, "columns names 'a' twice; expected distinct columns"),
    ],
)
def test_a_contradiction_in_a_document_ends_with_what_is_expected(
    spec: dict[str, Any], message: str
) -> None:
    (issue,) = told(ProbeByUri, {"name": "p", "uri": "file:///x", "spec": spec})
    assert issue.message.startswith(message)
    assert "got" not in issue.message


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b'{"model": 3, "probe": "p"}', "body.model"),
        (b'{"model": 3', "body"),
        (b"[]", "body"),
        (b'{"options": {"feature_map": {"modul": 1}}}', "body.options.feature_map.modul"),
    ],
)
def test_the_same_over_http(content: bytes, where: str) -> None:
    app = FastAPI()
    problems.install(app)

    @app.post("/analyses")
    def create(body: AnalysisCreate) -> None: ...

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            headers = {"Content-Type": "application/json"}
            return await client.post("/analyses", content=content, headers=headers)

    response = asyncio.run(ask())
    assert response.status_code == 422
    errors = response.json()["errors"]
    assert where in [error["location"] for error in errors]
    assert not INTERNAL.search(response.text)


def test_a_page_of_a_list_says_its_limits() -> None:
    (issue,) = told(PageQuery, {"limit": 1000})
    assert issue.message == "expected at most 200; got 1000"
