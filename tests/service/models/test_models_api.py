import base64
import hashlib
import io
import json
import pickle
import socket
import uuid
import zipfile
from typing import Any

import httpx
import pytest
import torch
from support import Stack, multilayer, scripted
from torch import nn

pytestmark = pytest.mark.xdist_group("stack")


def unique(prefix: str = "model") -> str:
    return f"{prefix}-{uuid.uuid4()}"


def upload(http: httpx.Client, content: bytes, **fields: str) -> httpx.Response:
    return http.post("/v1/models", files={"file": content}, data={"name": unique()} | fields)


def test_an_upload_is_kept_and_given_back(http: httpx.Client, archive: bytes) -> None:
    name = unique()
    response = upload(http, archive, name=name, run="r", step="7", metadata='{"lr": 0.1}')
    assert response.status_code == 201
    model = response.json()
    assert response.headers["location"] == f"/v1/models/{model['id']}"
    assert (model["name"], model["run"], model["step"]) == (name, "r", 7)
    assert model["metadata"] == {"lr": 0.1}
    assert model["format"] == "torchscript"
    assert model["size_bytes"] == len(archive)
    assert model["sha256"] == hashlib.sha256(archive).hexdigest()
    assert http.get(response.headers["location"]).json() == model
    content = http.get(f"/v1/models/{model['id']}/content")
    assert content.content == archive
    assert content.headers["etag"] == f'"{model["sha256"]}"'


def test_a_raw_body_with_query_parameters_does_the_same(http: httpx.Client, archive: bytes) -> None:
    response = http.post(
        "/v1/models",
        params={"name": unique(), "step": 3},
        content=archive,
        headers={"Content-Type": "application/octet-stream"},
    )
    assert response.status_code == 201
    assert response.json()["step"] == 3


def test_the_same_bytes_under_the_same_name_are_the_same_model(
    http: httpx.Client, archive: bytes
) -> None:
    name = unique()
    first = upload(http, archive, name=name)
    again = upload(http, archive, name=name)
    other_step = upload(http, archive, name=name, step="1")
    assert (first.status_code, again.status_code, other_step.status_code) == (201, 200, 201)
    assert again.json() == first.json()
    assert other_step.json()["id"] != first.json()["id"]


def test_what_becomes_of_other_metadata_for_the_same_bytes_is_said(
    http: httpx.Client, archive: bytes
) -> None:
    name = unique()
    first = upload(http, archive, name=name, metadata='{"lr": 0.1}')
    assert first.json()["notice"] is None
    for same in ({}, {"metadata": '{"lr": 0.1}'}):
        assert upload(http, archive, name=name, **same).json() == first.json()
    again = upload(http, archive, name=name, metadata='{"lr": 0.2}')
    assert again.status_code == 200
    assert again.json()["metadata"] == {"lr": 0.1}
    notice = again.json()["notice"]
    assert "metadata of this upload was not kept" in notice
    # What it advises works.
    assert f"DELETE /v1/models/{first.json()['id']} first" in notice
    assert http.delete(f"/v1/models/{first.json()['id']}").status_code == 204
    after = upload(http, archive, name=name, metadata='{"lr": 0.2}').json()
    assert (after["metadata"], after["notice"]) == ({"lr": 0.2}, None)


def test_a_flipped_bit_in_the_weights_is_refused(http: httpx.Client, archive: bytes) -> None:
    content = bytearray(archive)
    content[content.index(b"data/0") + 1000] ^= 1
    response = upload(http, bytes(content))
    assert response.status_code == 422
    assert "the checksum of 'data/0' is wrong" in response.json()["detail"]
    assert "the upload was damaged" in response.json()["detail"]


def test_a_stored_model_that_changed_is_not_analysed_and_the_same_bytes_mend_it(
    http: httpx.Client, stack: Stack
) -> None:
    content = scripted(nn.Sequential(nn.Flatten(), *multilayer(seed=4711)))
    name, sha256 = unique(), hashlib.sha256(content).hexdigest()
    model = upload(http, content, name=name).json()
    (path,) = stack.data_dir.rglob(sha256)
    changed = bytearray(content)
    changed[changed.index(b"data/0") + 1000] ^= 1
    path.write_bytes(changed)
    body = {"model": model["id"], "probe": "builtin:digits"}

    def analyse() -> dict[str, Any]:
        started = http.post("/v1/analyses", json=body).json()
        ended: dict[str, Any] = http.get(f"/v1/analyses/{started['id']}?wait=60").json()
        return ended

    error = analyse()["error"]
    assert error["code"] == "stored_file_damaged"
    assert "stored copy of the model has changed" in error["message"]
    assert "Upload the same file once more" in error["hint"]
    assert upload(http, content, name=name).status_code == 200
    assert path.read_bytes() == content
    assert analyse()["status"] == "succeeded"


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        ("a flipped bit", "has changed in the server's store"),
        ("cut off", "has changed in the server's store"),
        ("gone", "is missing from the server's store"),
    ],
)
def test_a_stored_model_that_changed_is_not_given_back_until_the_same_bytes_mend_it(
    http: httpx.Client, stack: Stack, harm: str, says: str
) -> None:
    content = scripted(multilayer(seed=len(harm)))
    name, sha256 = unique(), hashlib.sha256(content).hexdigest()
    model = upload(http, content, name=name).json()
    (path,) = stack.data_dir.rglob(sha256)
    changed = bytearray(content)
    changed[len(changed) // 2] ^= 1
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(changed if harm == "a flipped bit" else content[:-1])
    refused = http.get(f"/v1/models/{model['id']}/content")
    assert refused.status_code == 500
    assert refused.headers["content-type"] == "application/problem+json"
    assert "etag" not in refused.headers
    assert refused.json()["code"] == "stored_file_damaged"
    assert f"The stored copy of the model (SHA-256 {sha256}) {says}" in refused.json()["detail"]
    assert upload(http, content, name=name).status_code == 200
    assert http.get(f"/v1/models/{model['id']}/content").content == content


@pytest.mark.parametrize(("right", "status"), [(True, 201), (False, 422)])
def test_the_announced_digest_is_verified(
    http: httpx.Client, archive: bytes, right: bool, status: int
) -> None:
    digest = hashlib.sha256(archive if right else b"other").digest()
    response = http.post(
        "/v1/models",
        files={"file": archive},
        data={"name": unique()},
        headers={"Content-Digest": f"sha-256=:{base64.b64encode(digest).decode()}:"},
    )
    assert response.status_code == status
    if not right:
        assert response.json()["code"] == "digest_mismatch"


def _state_dict() -> bytes:
    buffer = io.BytesIO()
    torch.save(multilayer().state_dict(), buffer)
    return buffer.getvalue()


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("holiday/photo.txt", "hello")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (b"", "invalid_request", "empty"),
        (b"hello, I am no model", "not_a_model", "none of the formats"),
        (pickle.dumps({"a": 1}), "not_a_model", "pickle"),
        (_state_dict(), "not_a_model", "state_dict"),
        (_zip(), "not_a_model", "zip file of something else"),
        (scripted(multilayer())[:3000], "not_a_model", "cut off"),
    ],
)
def test_what_is_no_model_is_refused_by_name(
    http: httpx.Client, content: bytes, code: str, words: str
) -> None:
    response = upload(http, content)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["code"] == code
    assert words in problem["detail"]


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"step": "-1"}, "step"),
        ({"step": "soon"}, "step"),
        ({"metadata": "{"}, "metadata"),
        ({"metadata": '{"a": "\\u0000"}'}, "metadata"),
        ({"name": "two\nlines"}, "name"),
        ({"colour": "blue"}, "colour"),
    ],
)
def test_a_wrong_field_is_named(
    http: httpx.Client, archive: bytes, fields: dict[str, str], where: str
) -> None:
    response = upload(http, archive, **fields)
    assert response.status_code == 422
    assert where in [error["location"] for error in response.json()["errors"]]


def test_the_name_is_required(http: httpx.Client, archive: bytes) -> None:
    response = http.post("/v1/models", files={"file": archive})
    assert response.status_code == 422
    assert "name" in response.json()["detail"]


def test_another_content_type_is_refused(http: httpx.Client) -> None:
    response = http.post("/v1/models", json={"name": "x"})
    assert response.status_code == 415
    assert "multipart/form-data" in response.json()["detail"]


def test_an_upload_cut_off_half_way_leaves_nothing(stack: Stack, archive: bytes) -> None:
    name = unique("cut")
    # Bytes that nobody sent before: their blob must not exist afterwards.
    content = scripted(multilayer(seed=12345))
    url = httpx.URL(stack.url)
    head = (
        f"POST /v1/models?name={name} HTTP/1.1\r\nHost: {url.host}\r\n"
        f"Content-Type: application/octet-stream\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    before = {path for path in (stack.data_dir / "blobs").rglob("*") if path.is_file()}
    with socket.create_connection((url.host, url.port or 80)) as connection:
        connection.sendall(head.encode() + content[: len(content) // 2])
    with stack.http() as http:
        # A whole upload goes through afterwards, so the cut one has been dealt with.
        assert upload(http, archive).status_code == 201
        assert http.get("/v1/models", params={"name": name}).json()["items"] == []
    after = {path for path in (stack.data_dir / "blobs").rglob("*") if path.is_file()}
    digest = hashlib.sha256(archive).hexdigest()
    assert {path.name for path in after - before} <= {digest}


def test_lists_are_paged_newest_first(http: httpx.Client, archive: bytes) -> None:
    name = unique()
    ids = [upload(http, archive, name=name, step=str(step)).json()["id"] for step in range(5)]
    first = http.get("/v1/models", params={"name": name, "limit": 3}).json()
    assert [item["id"] for item in first["items"]] == ids[:1:-1]
    rest = http.get(
        "/v1/models", params={"name": name, "limit": 3, "cursor": first["next_cursor"]}
    ).json()
    assert [item["id"] for item in rest["items"]] == ids[1::-1]
    assert rest["next_cursor"] is None


@pytest.mark.parametrize(
    "query",
    [{"limit": "201"}, {"limit": "0"}, {"cursor": "x"}, {"naem": "typo"}, {"name": "a\x00b"}],
)
def test_a_wrong_query_is_refused(http: httpx.Client, query: dict[str, str]) -> None:
    assert http.get("/v1/models", params=query).status_code == 422


def test_a_deleted_model_is_gone_and_its_bytes_with_the_last_one(
    http: httpx.Client, stack: Stack
) -> None:
    content = scripted(multilayer(seed=777))
    sha256 = hashlib.sha256(content).hexdigest()
    blob = stack.data_dir / "blobs" / "sha256" / sha256[:2] / sha256
    one, two = (upload(http, content).json()["id"] for _ in range(2))
    assert http.delete(f"/v1/models/{one}").status_code == 204
    assert http.get(f"/v1/models/{one}").status_code == 404
    assert blob.exists()
    assert http.delete(f"/v1/models/{two}").status_code == 204
    assert not blob.exists()
    assert http.delete(f"/v1/models/{two}").status_code == 404


@pytest.mark.parametrize("path", ["/v1/models/00000000-0000-7000-8000-000000000000", "/nothing"])
def test_what_is_not_there_is_a_problem_document(http: httpx.Client, path: str) -> None:
    response = http.get(path)
    assert response.status_code == 404
    problem = response.json()
    assert problem["instance"] == path
    assert json.dumps(problem["status"]) == "404"


def test_an_id_that_is_none_is_refused(http: httpx.Client) -> None:
    response = http.get("/v1/models/abc")
    assert response.status_code == 422
    assert "model_id" in response.json()["detail"]
