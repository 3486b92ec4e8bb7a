"""Errors, whoever finds them: problem documents, and described as such."""

import json
import socket
from typing import Any

import httpx
import pytest
from support import ServedApi

from service.http.problems import Problem

pytestmark = pytest.mark.xdist_group("migrations")

NOBODY = "01890a5d-ac96-774b-bcce-b302099a8057"


def documented(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The problem that an answer tells of, whose code the guide knows."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    assert problem["code"] in {kind.code for kind in Problem.__subclasses__()}
    return problem


@pytest.mark.parametrize("levels", [100, 990, 100_000])
@pytest.mark.parametrize("path", ["/v1/analyses", "/v1/probes"])
def test_deep_json_is_refused(api: ServedApi, path: str, levels: int) -> None:
    deep = '{"a":' * levels + "1" + "}" * levels
    for document in (
        deep,
        f'{{"name": {deep}}}',
        f'{{"name": "a", "uri": "file:///a", "spec": {deep}}}',
    ):
        with api.http() as http:
            answer = http.post(path, content=document, headers={"Content-Type": "application/json"})
        documented(answer, 422)


def sent_as_is(api: ServedApi, request: bytes) -> tuple[bytes, dict[str, Any]]:
    """The head and the document that come back."""
    url = httpx.URL(api.url)
    with socket.create_connection((url.host, url.port or 80), timeout=60) as connection:
        connection.sendall(request)
        received = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head.lower()
    return head, json.loads(body)


def test_a_body_announced_too_large_is_told_the_limit(api: ServedApi) -> None:
    for path, limit in (("/v1/analyses", 1 << 20), ("/v1/models", (2 << 30) + (1 << 20))):
        head, problem = sent_as_is(
            api,
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            "Content-Type: multipart/form-data; boundary=a\r\n"
            f"Content-Length: {1 << 40}\r\n\r\n".encode(),
        )
        assert head.startswith(b"HTTP/1.1 413 ")
        assert problem["code"] == "too_large"
        assert str(limit) in problem["detail"]


def test_a_strange_host_is_told_so(api: ServedApi) -> None:
    with api.http() as http:
        problem = documented(http.get("/v1/models", headers={"Host": "evil.example"}), 400)
    assert problem["code"] == "unknown_host"
    assert "PHISCOPE_ALLOWED_HOSTS" in problem["detail"]


@pytest.mark.parametrize(
    "sent", [b"NONSENSE\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"]
)
def test_what_is_no_http_is_told_so(api: ServedApi, sent: bytes) -> None:
    head, problem = sent_as_is(api, sent)
    assert head.startswith(b"HTTP/1.1 400 ")
    assert problem["code"] == "bad_request"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/models", "GET, HEAD, POST"),
        ("PUT", f"/v1/models/{NOBODY}", "GET, HEAD, DELETE"),
        ("DELETE", "/v1/probes", "GET, HEAD, POST"),
        ("POST", "/v1/probes/a", "GET, HEAD, DELETE"),
        ("PATCH", "/v1/analyses", "GET, HEAD, POST"),
        ("POST", f"/v1/quarantines/{'a' * 64}", "GET, HEAD, DELETE"),
        ("GET", f"/v1/analyses/{NOBODY}/cancel", "POST"),
        ("HEAD", f"/v1/analyses/{NOBODY}/cancel", "POST"),
        ("POST", "/static/docs.js", "GET, HEAD"),
    ],
)
def test_a_method_that_is_not_there_is_told_those_that_are(
    api: ServedApi, method: str, path: str, allowed: str
) -> None:
    with api.http() as http:
        answer = http.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_range_that_a_static_file_has_not_is_told_so(api: ServedApi) -> None:
    with api.http() as http:
        for ranges, status in (("bytes=999999999-", 416), ("nonsense", 400)):
            answer = http.get("/static/docs.js", headers={"Range": ranges})
            assert (answer.status_code, "host" in answer.text.lower()) == (status, False)


@pytest.mark.parametrize(
    "path", ["/livez", "/docs", "/openapi.json", "/static/docs.js", "/v1/models", "/v1/probes/none"]
)
def test_head_is_answered_like_get(api: ServedApi, path: str) -> None:
    with api.http() as http:
        get, head = http.get(path), http.head(path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    for name in ("content-type", "content-length"):
        assert head.headers[name] == get.headers[name]


def test_deleting_what_is_built_in_conflicts_with_that(api: ServedApi) -> None:
    with api.http() as http:
        assert documented(http.delete("/v1/probes/builtin:digits"), 409)["code"] == "built_in"


def test_errors_are_described_as_they_are_sent(api: ServedApi) -> None:
    with api.http() as http:
        document = http.get("/openapi.json").json()
    described = {
        (path, method, status): set(answer["content"])
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        for status, answer in operation["responses"].items()
        if status[0] in "45" and (path, status) != ("/readyz", "503")
    }
    assert len(described) >= 2 * len(document["paths"])
    assert [key for key, types in described.items() if types != {"application/problem+json"}] == []
    assert "ValidationIssue" in document["components"]["schemas"]
