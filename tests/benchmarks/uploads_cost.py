"""What uploads cost: the API's memory, and its speed against writing and digesting the same bytes.

Run it by hand: `python -m tests.benchmarks.uploads_cost`. Uploads and plain writes take turns, and
the best of each is compared, since machines drift.
"""

import hashlib
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from support import ServedApi, served_api

from service.platform.storage import BlobStore

MIB = 1 << 20
REPEATS = 3
SIZES = (64, 256, 1024)
AT_ONCE, EACH = 6, 256
_BLOCK = os.urandom(MIB)
_BOUNDARY = b"phiscope-benchmark"


def blocks(mebibytes: int) -> Iterator[bytes]:
    """Bytes that no upload before had."""
    yield os.urandom(16) + _BLOCK[16:]
    for _ in range(mebibytes - 1):
        yield _BLOCK


def upload(api: ServedApi, mebibytes: int) -> float:
    """Register a probe of this size as curl does, and return the seconds that took."""
    name = os.urandom(8).hex().encode()
    before = (
        b'--%s\r\nContent-Disposition: form-data; name="name"\r\n\r\n%s\r\n'
        b'--%s\r\nContent-Disposition: form-data; name="file"; filename="x.bin"\r\n\r\n'
    ) % (_BOUNDARY, name, _BOUNDARY)
    after = b"\r\n--%s--\r\n" % _BOUNDARY
    at = urlsplit(api.url)
    head = (
        f"POST /v1/probes HTTP/1.1\r\nHost: {at.netloc}\r\nConnection: close\r\n"
        f"Content-Type: multipart/form-data; boundary={_BOUNDARY.decode()}\r\n"
        f"Content-Length: {len(before) + mebibytes * MIB + len(after)}\r\n\r\n"
    )
    began = time.perf_counter()
    with socket.create_connection((at.hostname, at.port)) as connection:
        connection.sendall(head.encode() + before)
        for block in blocks(mebibytes):
            connection.sendall(block)
        connection.sendall(after)
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 201"), answer
    return time.perf_counter() - began


def plain(directory: Path, mebibytes: int, *, synced: bool) -> float:
    """Write and digest as many bytes here, and return the seconds that took."""
    began = time.perf_counter()
    with tempfile.NamedTemporaryFile(dir=directory) as file:
        digest = hashlib.sha256()
        for block in blocks(mebibytes):
            digest.update(block)
            file.write(block)
        file.flush()
        if synced:
            os.fsync(file.fileno())
        return time.perf_counter() - began


def stored(store: BlobStore, mebibytes: int) -> float:
    """Store as many bytes here, as the API does once it has them, and return the seconds."""
    began = time.perf_counter()
    with store.incoming() as incoming:
        for block in blocks(mebibytes):
            incoming.write(block)
        store.keep(incoming)
    return time.perf_counter() - began


def peak_mib(pid: int) -> float:
    """The most memory that a process has held since its mark was reset."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def reset_peak(pid: int) -> float:
    """Put the mark at what the process holds now, and return that."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return peak_mib(pid)


def main() -> None:
    """Print memory and speed."""
    with tempfile.TemporaryDirectory() as folder, served_api(Path(folder)) as api:
        upload(api, 1)
        for size in SIZES:
            before = reset_peak(api.pid)
            ours, kept, written, synced = [], [], [], []
            for _ in range(REPEATS):
                ours.append(upload(api, size))
                kept.append(stored(BlobStore(api.blobs.as_uri()), size))
                written.append(plain(Path(folder), size, synced=False))
                synced.append(plain(Path(folder), size, synced=True))
            best = min(ours)
            say(
                f"{size:5} MiB: {best:.2f} s; of plain write + sha256 {min(written) / best:.2f}, "
                f"with fsync {min(synced) / best:.2f}; storing alone "
                f"{min(written) / min(kept):.2f} and {min(synced) / min(kept):.2f}; "
                f"memory {before:.0f} -> {peak_mib(api.pid):.0f} MiB"
            )
        before = reset_peak(api.pid)
        with ThreadPoolExecutor(AT_ONCE) as threads:
            list(threads.map(lambda _: upload(api, EACH), range(AT_ONCE)))
        say(f"{AT_ONCE} × {EACH} MiB at once: memory {before:.0f} -> {peak_mib(api.pid):.0f} MiB")


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)  # noqa: T201 - it is what the script is for


if __name__ == "__main__":
    main()
