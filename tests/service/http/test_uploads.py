"""What uploads take of the server, and what they leave there."""

import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
from support import HANGS_SECONDS, ServedApi, fill, served_api, small_disk

pytestmark = pytest.mark.xdist_group("migrations")

MIB = 1 << 20


@pytest.fixture
def large(tmp_path: Path) -> Iterator[BinaryIO]:
    """A file of 128 MiB."""
    with (tmp_path / "large").open("w+b") as file:
        file.truncate(128 * MIB)
        yield file


def unique() -> str:
    return f"p-{uuid4().hex}"


def peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def incoming(api: ServedApi) -> list[Path]:
    directory = api.blobs / "incoming"
    return list(directory.iterdir()) if directory.is_dir() else []


@pytest.mark.parametrize("kind", ["form", "body"])
def test_a_large_upload_takes_no_memory_to_speak_of(
    api: ServedApi, large: BinaryIO, kind: str
) -> None:
    with api.http() as http:
        # What the first request of all loads is not what this is about.
        http.post("/v1/probes", files={"file": b"x"}, data={"name": unique()})
        before = peak_bytes(api.pid)
        if kind == "form":
            sent = http.post("/v1/probes", files={"file": large}, data={"name": unique()})
            assert sent.status_code == 201
            assert sent.json()["size_bytes"] == 128 * MIB
            http.delete(f"/v1/probes/{sent.json()['id']}")
        else:
            sent = http.post(
                "/v1/models",
                params={"name": unique()},
                content=large,
                headers={"Content-Type": "application/octet-stream"},
            )
            assert sent.json()["code"] == "not_a_model"
    assert peak_bytes(api.pid) - before < 50 * MIB
    assert incoming(api) == []


@pytest.mark.parametrize("first", ["file", "other"])
def test_the_file_is_found_wherever_in_the_form_it_is(api: ServedApi, first: str) -> None:
    parts = [("other", ("a", b"not this")), ("file", ("b", b"this"))]
    with api.http() as http:
        sent = http.post(
            "/v1/probes", files=sorted(parts, reverse=first == "other"), data={"name": "p"}
        )
    assert sent.status_code == 201
    assert sent.json()["size_bytes"] == len(b"this")


def send_half(url: str) -> socket.socket:
    """Send the beginning of an upload, whose end the server waits for from then on."""
    at = urlsplit(url)
    connection = socket.create_connection((at.hostname, at.port))
    head = (
        f"POST /v1/models?name=half HTTP/1.1\r\nHost: {at.netloc}\r\n"
        f"Content-Type: application/octet-stream\r\nContent-Length: {8 * MIB}\r\n\r\n"
    )
    connection.sendall(head.encode() + bytes(2 * MIB))
    return connection


def wait_for(count: int, api: ServedApi) -> None:
    limit = time.monotonic() + HANGS_SECONDS
    while len(incoming(api)) != count:
        assert time.monotonic() < limit
        time.sleep(0.02)


def test_a_broken_upload_leaves_nothing_and_a_start_removes_what_a_killed_one_left(
    tmp_path: Path,
) -> None:
    left = tmp_path / "data" / "blobs" / "incoming" / "left"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    with served_api(tmp_path) as api:
        with api.http() as http:
            assert http.get("/livez").status_code == 200
        assert not left.exists()
        with send_half(api.url):
            wait_for(1, api)
        wait_for(0, api)


def test_a_store_that_cannot_be_written_is_said_to_be(api: ServedApi) -> None:
    """A file in its way, since whoever tests as root may write everywhere."""
    shutil.rmtree(api.blobs / "incoming", ignore_errors=True)
    (api.blobs / "incoming").write_bytes(b"")
    try:
        with api.http() as http:
            sent = http.post("/v1/models", files={"file": b"x"}, data={"name": "n"})
    finally:
        (api.blobs / "incoming").unlink()
    assert isinstance(sent, httpx.Response)
    assert (sent.status_code, sent.json()["code"]) == (503, "unavailable")
    assert "cannot read or write its files" in sent.json()["detail"]


def test_a_full_disk_is_said_to_be_full(tmp_path: Path) -> None:
    with small_disk(tmp_path / "data" / "blobs", 2 * MIB) as blobs, served_api(tmp_path) as api:
        with api.http() as http:
            assert http.get("/readyz").json()["checks"][1] == {
                "name": "storage",
                "ok": True,
                "required": True,
                "error": None,
            }
            fill(blobs / "others")
            sent = http.post("/v1/models", files={"file": bytes(MIB)}, data={"name": "n"})
            assert (sent.status_code, sent.json()["code"]) == (507, "storage_full")
            assert "disk is full" in sent.json()["detail"]
            ready = http.get("/readyz")
            assert (ready.status_code, ready.json()["ready"]) == (503, False)
            assert ready.json()["checks"][1]["error"] == "No space left on device"
            (blobs / "others").unlink()
            assert http.get("/readyz").json()["checks"][1]["ok"]
        assert incoming(api) == []
