"""What reads cost: the report, a 304, the status and a page, against a bare route.

Run it by hand: `python -m tests.benchmarks.reads_cost`. The bare route gives the report's bytes, in
the same application and process. All take turns, and of each the best turn counts, since others use
the machine too.
"""

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import httpx
import uvicorn
from fastapi import Response
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from service.app import create_app
from service.contract.options import Options
from service.contract.progress import Progress
from service.http.serving import configured
from service.local.databases import LocalDatabases
from service.platform.database import new_id
from service.platform.migration import upgrade
from service.tables.analyses import Analysis, Report, Status
from service.tables.models import Model
from service.tables.probes import Probe, ProbeStatus

CONNECTIONS = 16
TURNS = 5
TURN_SECONDS = 2.0
ANALYSES = 500
REPORT = b'{"filler": "' + 40_000 * b"x" + b'"}'


def serve(fd: int) -> None:
    """Serve the application with a bare route beside its own."""
    app = create_app()

    @app.get("/bare")
    async def bare() -> Response:
        return Response(REPORT, media_type="application/json")

    uvicorn.Server(configured(app)).run(sockets=[socket.socket(fileno=fd)])


@contextmanager
def served(directory: Path) -> Iterator[tuple[str, int, UUID]]:
    """Serve it with some hundred analyses that have succeeded; give host, port, and one's id."""
    with (
        LocalDatabases(directory / "databases") as local,
        socket.create_server(("127.0.0.1", 0)) as at,
    ):
        engine = create_engine(local.database_url)
        upgrade(engine)
        with Session(engine) as session, session.begin():
            analysis_id = add_analyses(session)
        environment = {
            "PHISCOPE_DATABASE_URL": local.database_url,
            "PHISCOPE_BROKER_URL": local.broker_url,
            "PHISCOPE_DATA_DIR": str(directory / "data"),
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.reads_cost", str(at.fileno())],
            env=os.environ | environment,
            pass_fds=[at.fileno()],
        )
        host, port = at.getsockname()
        try:
            httpx.get(f"http://{host}:{port}/livez", timeout=60).raise_for_status()
            yield host, port, analysis_id
        finally:
            process.terminate()
            process.wait()
            engine.dispose()


def add_analyses(session: Session) -> UUID:
    """Add analyses with reports, and give the id of one."""
    digest = sha256(REPORT).hexdigest()
    model = Model(name="m", sha256=digest, size_bytes=1, format="torchscript", metadata_={})
    probe = Probe(name="p", version=1, spec={}, status=ProbeStatus.READY)
    session.add_all([model, probe])
    session.flush()
    ids = [new_id() for _ in range(ANALYSES)]
    session.add_all(
        Analysis(
            id=each,
            model_id=model.id,
            probe_id=probe.id,
            options=Options().model_dump(mode="json"),
            priority="normal",
            status=Status.SUCCEEDED,
            progress=Progress(stage="done", done=1, total=1).model_dump(),
            regime="MF",
            fingerprint=digest,
        )
        for each in ids
    )
    session.flush()
    session.add_all(
        Report(analysis_id=each, document=REPORT.decode(), sha256=digest) for each in ids
    )
    return ids[0]


class Client(asyncio.Protocol):
    """A connection that sends a request again as soon as it is answered.

    Args:
        request: Its bytes.
        expected: What the answer's first line holds.
    """

    def __init__(self, request: bytes, expected: bytes) -> None:
        self.seconds: list[float] = []
        self._request, self._expected = request, expected
        self._transport: asyncio.Transport
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        """Go on when the answer is there."""
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or len(body) < content_length(head):
            return
        assert self._expected in head.split(b"\r\n", 1)[0], bytes(head)
        self.seconds.append(time.perf_counter() - self._began)
        self._received.clear()
        self._send()

    def close(self) -> None:
        """End."""
        self._transport.close()

    def _send(self) -> None:
        self._began = time.perf_counter()
        self._transport.write(self._request)


def content_length(head: bytes | bytearray) -> int:
    """Return how long a body is, by its head; 0 if that does not say."""
    _, found, rest = head.lower().partition(b"content-length: ")
    return int(rest.split(b"\r\n", 1)[0]) if found else 0


async def load(host: str, port: int, request: bytes, expected: bytes) -> tuple[float, float]:
    """Return requests per second, and the median of their seconds."""
    loop = asyncio.get_running_loop()
    clients = [Client(request, expected) for _ in range(CONNECTIONS)]
    began = time.perf_counter()
    for client in clients:
        await loop.create_connection(lambda client=client: client, host, port)  # type: ignore[misc]  # a lambda with a default
    await asyncio.sleep(TURN_SECONDS)
    took = time.perf_counter() - began
    for client in clients:
        client.close()
    seconds = sorted(each for client in clients for each in client.seconds)
    return len(seconds) / took, seconds[len(seconds) // 2]


def asked(path: str, *headers: str) -> bytes:
    """Write a request."""
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", ""]
    return "\r\n".join(lines).encode()


def main() -> None:
    """Print one line for each kind of read."""
    etag = f'If-None-Match: "{sha256(REPORT).hexdigest()}"'
    with (
        tempfile.TemporaryDirectory() as directory,
        served(Path(directory)) as (host, port, analysis_id),
    ):
        address = f"/v1/analyses/{analysis_id}"
        kinds = {
            "bare": (asked("/bare"), b"200"),
            "report": (asked(f"{address}/report"), b"200"),
            "report, 304": (asked(f"{address}/report", etag), b"304"),
            "status": (asked(address), b"200"),
            "page of 50": (asked("/v1/analyses"), b"200"),
        }
        best: dict[str, tuple[float, float]] = {}
        for _ in range(TURNS):
            for name, (request, expected) in kinds.items():
                found = asyncio.run(load(host, port, request, expected))
                best[name] = max(best.get(name, found), found)
        for name, (rate, latency) in best.items():
            ratio = rate / best["bare"][0]
            print(  # noqa: T201 - it is what the script is for
                f"{name:12} {rate:7.0f}/s  {ratio:.3f} of bare  p50 {1000 * latency:.1f} ms"
            )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        serve(int(sys.argv[1]))
    else:
        main()
