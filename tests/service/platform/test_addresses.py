"""Where probes may be fetched from, and that nothing else is ever asked for."""

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from service.platform.addresses import Address, AddressError, check_allowed, parse, read

PREFIXES = ["s3://bucket/probes", "file:///srv/probes/", "az://box"]


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://bucket/probes/a/x.npz", Address("s3", "bucket", ("probes", "a", "x.npz"))),
        ("gs://bucket/x%20y.npz", Address("gs", "bucket", ("x y.npz",))),
        ("az://box//x.npz", Address("az", "box", ("x.npz",))),
        ("file:///srv/x.npz", Address("file", "", ("srv", "x.npz"))),
    ],
)
def test_an_address_is_read(uri: str, expected: Address) -> None:
    assert parse(uri) == expected


@pytest.mark.parametrize(
    "uri", ["s3://bucket/probes/x.npz", "file:///srv/probes/deep/er/x.npz", "az://box/x.npz"]
)
def test_what_is_below_a_prefix_is_allowed(uri: str) -> None:
    check_allowed(uri, PREFIXES)


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("s3://bucket/probes-of-others/x.npz", "not below a prefix"),
        ("s3://bucket/probes", "not below a prefix"),
        ("s3://bucket-of-others/probes/x.npz", "not below a prefix"),
        ("gs://bucket/probes/x.npz", "not below a prefix"),
        ("file:///srv/probes/../secret", "must not hold"),
        ("file:///srv/probes/%2e%2e/secret", "must not hold"),
        ("file:///srv/probes/%2E./secret", "must not hold"),
        ("file:///srv/probes/..%2Fsecret", "encoded slash"),
        ("file:///srv/probes/x%00.npz", "must not hold"),
        ("file://srv/probes/x.npz", "three slashes"),
        ("file://localhost/srv/probes/x.npz", "three slashes"),
        ("s3:///probes/x.npz", "a bucket"),
        ("s3://user@bucket/probes/x.npz", "more than a place"),
        ("s3://bucket:80/probes/x.npz", "more than a place"),
        ("s3://bucket/probes/x.npz?endpoint=http://169.254.169.254", "more than a place"),
        ("http://169.254.169.254/latest/meta-data", "begins with http://"),
        ("https://bucket.s3.amazonaws.com/probes/x.npz", "begins with https://"),
        ("/srv/probes/x.npz", "no scheme"),
        ("memory:///x", "begins with memory://"),
        ("s3://[bucket/x", "no address"),
    ],
)
def test_all_else_is_refused(uri: str, words: str) -> None:
    with pytest.raises(AddressError, match=words):
        check_allowed(uri, PREFIXES)


def test_without_prefixes_nothing_is_allowed() -> None:
    with pytest.raises(AddressError, match="PHISCOPE_PROBE_URIS is not set"):
        check_allowed("s3://bucket/x.npz", [])


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    (tmp_path / "secret.npz").write_bytes(b"secret")
    root = tmp_path / "shared"
    root.mkdir()
    (root / "x.npz").write_bytes(b"content")
    (root / "inside.npz").symlink_to("x.npz")
    (root / "outside.npz").symlink_to("../secret.npz")
    (root / "up").symlink_to("..")
    (root / "a b.npz").write_bytes(b"with a space")
    os.mkfifo(root / "pipe")
    return root


def fetched(uri: str, root: Path, most: int = 100) -> bytes:
    return b"".join(read(uri, [f"file://{root}"], most))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.npz", b"content"),
        ("inside.npz", b"content"),
        ("a%20b.npz", b"with a space"),
    ],
)
def test_a_file_is_fetched(shared: Path, name: str, content: bytes) -> None:
    assert fetched(f"file://{shared}/{name}", shared) == content


def test_a_root_that_is_a_link_itself_is_followed(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(shared)
    assert fetched(f"file://{tmp_path}/link/x.npz", tmp_path / "link") == b"content"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("outside.npz", "a link there leads out"),
        ("up/secret.npz", "a link there leads out"),
        ("pipe", "no ordinary file"),
        ("nothing.npz", "there is nothing"),
    ],
)
def test_what_is_no_file_below_the_root_is_not(shared: Path, name: str, words: str) -> None:
    with pytest.raises(AddressError, match=words):
        fetched(f"file://{shared}/{name}", shared)


def test_what_is_too_large_is_not_kept(shared: Path) -> None:
    with pytest.raises(AddressError, match="larger than 3 bytes"):
        fetched(f"file://{shared}/x.npz", shared, most=3)


class _Bucket(BaseHTTPRequestHandler):
    """As much of S3 as a download takes."""

    objects: ClassVar = {"/bucket/probes/a b.npz": b"content of an object" * 1000}

    def do_GET(self) -> None:
        content = self.objects.get(self.path.replace("%20", " "))
        self.send_response(404 if content is None else 200)
        body = b"<Error><Code>NoSuchKey</Code></Error>" if content is None else content
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Sat, 28 Nov 2026 12:00:00 GMT")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Bucket) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        yield
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("bucket")
def test_an_object_is_fetched_with_the_credentials_of_the_platform() -> None:
    def content(name: str) -> bytes:
        return b"".join(read(f"s3://bucket/probes/{name}", ["s3://bucket/probes"], 1 << 20))

    assert content("a%20b.npz") == b"content of an object" * 1000
    with pytest.raises(AddressError, match="there is nothing"):
        content("none.npz")
