import io
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from support import flattening

from service.client import Client
from service.local import LocalDatabases

pytestmark = pytest.mark.xdist_group("migrations")


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Databases that somebody else runs, as far as the parts can tell."""
    with LocalDatabases(tmp_path / "databases") as local:
        yield os.environ | {
            "PHISCOPE_DATABASE_URL": local.database_url,
            "PHISCOPE_BROKER_URL": local.broker_url,
            "PHISCOPE_DATA_DIR": str(tmp_path / "data"),
        }


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_migrate_serve_and_worker_run_alone(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "service"]
    subprocess.run([*command, "migrate"], env=environment, check=True)
    port = free_port()
    with ExitStack() as running:
        processes = []
        for part in (["serve", "--port", str(port)], ["worker"]):
            process = running.enter_context(subprocess.Popen([*command, *part], env=environment))
            running.callback(process.terminate)
            processes.append(process)
        client = running.enter_context(Client(f"http://127.0.0.1:{port}"))
        _await_ready(port)
        model = client.upload_model(io.BytesIO(flattening()), name="alone")
        report = client.analyse(model["id"], "builtin:digits")
        assert client.get("/readyz")["workers"]["live"] == 1
        processes[-1].terminate()
        processes[-1].wait()
        # It said good-bye: nobody waits a minute to learn that it is gone.
        assert client.get("/readyz")["workers"]["state"] == "none"
    assert report["probe"]["n"] == 1797


def _await_ready(port: int) -> None:
    while True:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.1)


def test_the_api_waits_for_its_database_and_says_so(tmp_path: Path) -> None:
    directory = tmp_path / "databases"
    with LocalDatabases(directory) as local:
        environment = os.environ | {
            "PHISCOPE_DATABASE_URL": local.database_url,
            "PHISCOPE_BROKER_URL": local.broker_url,
            "PHISCOPE_DATA_DIR": str(tmp_path / "data"),
        }
        command = [sys.executable, "-m", "service"]
        subprocess.run([*command, "migrate"], env=environment, check=True)
    port = free_port()
    with ExitStack() as running:
        serving = [*command, "serve", "--port", str(port)]
        process = running.enter_context(subprocess.Popen(serving, env=environment))
        running.callback(process.terminate)
        assert _await_answer(port, "/livez").status_code == 200
        readiness = httpx.get(f"http://127.0.0.1:{port}/readyz")
        assert readiness.status_code == 503
        assert [each["name"] for each in readiness.json()["checks"] if not each["ok"]] == [
            "database",
            "broker",
            "publication",
        ]
        refused = httpx.get(f"http://127.0.0.1:{port}/v1/models")
        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
        assert refused.headers["retry-after"]
        with LocalDatabases(directory):
            _await_ready(port)
            while not httpx.get(f"http://127.0.0.1:{port}/v1/probes/builtin:digits").is_success:
                time.sleep(0.1)


def _await_answer(port: int, path: str) -> httpx.Response:
    while True:
        try:
            return httpx.get(f"http://127.0.0.1:{port}{path}")
        except httpx.TransportError:
            time.sleep(0.1)
