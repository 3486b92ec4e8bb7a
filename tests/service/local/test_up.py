import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest
from support import Stack, running_stack, send_slow

with_the_shared_stack = pytest.mark.xdist_group("stack")

# Short, so that tests of lost workers need not wait a minute, and yet far longer than a worker that
# lives takes to renew its claim, which it does every second.
LEASE = {"PHISCOPE_LEASE_SECONDS": "8"}


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    clean = {name: value for name, value in os.environ.items() if "PHISCOPE" not in name}
    return subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        env=clean | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def descendants(stack: Stack) -> list[psutil.Process]:
    return psutil.Process(stack.process.pid).children(recursive=True)


def named(stack: Stack, pattern: str) -> psutil.Process:
    for process in descendants(stack):
        if re.search(pattern, " ".join(process.cmdline())):
            return process
    raise AssertionError(f"no process {pattern}")


def test_killing_the_worker_loses_no_job_and_runs_it_once(tmp_path: Path) -> None:
    with running_stack(tmp_path / "data", **LEASE) as stack, stack.client() as client:
        analysis = send_slow(client)
        for state in client.follow(analysis["id"]):
            if state["progress"]["stage"] == "locating_head":
                break
        named(stack, r"-m workers$").send_signal(signal.SIGKILL)
        done = client.wait(analysis["id"])
        assert (done["status"], done["attempts"]) == ("succeeded", 2)
        assert client.report(analysis["id"])["analysis_id"] == analysis["id"]


def test_killing_the_command_leaves_no_process_and_loses_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running_stack(data, **LEASE) as stack, stack.client() as client:
        analysis = send_slow(client)
        for state in client.follow(analysis["id"]):
            if state["status"] == "running":
                break
        family = descendants(stack)
        assert len(family) > 5
        stack.process.send_signal(signal.SIGKILL)
        _, alive = psutil.wait_procs(family, timeout=300)
        assert alive == []
    with running_stack(data) as stack, stack.client() as client:
        done = client.wait(analysis["id"])
        assert done["status"] == "succeeded"


def test_an_interrupt_stops_everything_and_gives_the_job_back(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running_stack(data) as stack, stack.client() as client:
        analysis = send_slow(client)
        for state in client.follow(analysis["id"]):
            if state["progress"]["stage"] == "locating_head":
                break
        family = descendants(stack)
        stack.process.send_signal(signal.SIGINT)
        assert stack.process.wait() == 0
        assert [process for process in family if process.is_running()] == []
    with running_stack(data) as stack, stack.client() as client:
        # Given back, not lost: nobody had to wait for a lease to expire.
        assert client.get(f"/v1/analyses/{analysis['id']}")["status"] in {"queued", "running"}
        assert client.wait(analysis["id"])["status"] == "succeeded"


@with_the_shared_stack
def test_databases_that_are_named_are_used_and_none_is_started(
    tmp_path: Path, stack: Stack, archive: bytes
) -> None:
    environment = named(stack, r"-m workers$").environ()
    urls = {name: environment[name] for name in ("PHISCOPE_DATABASE_URL", "PHISCOPE_BROKER_URL")}
    blobs = f"file://{stack.data_dir}/blobs"
    with running_stack(tmp_path / "data", PHISCOPE_STORAGE_URL=blobs, **urls) as second:
        commands = [" ".join(process.cmdline()) for process in descendants(second)]
        assert not [command for command in commands if "postgres" in command.split()[0]]
        with second.client() as there, stack.client() as here:
            model = there.upload_model(_file(tmp_path, archive), name="shared")
            assert here.get(f"/v1/models/{model['id']}") == model


def _file(directory: Path, content: bytes) -> Path:
    path = directory / "model.pt"
    path.write_bytes(content)
    return path


def test_it_goes_on_where_nothing_can_be_printed(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "service", "up", "--port", str(port)]
    with Path("/dev/full").open("w") as full:
        process = subprocess.Popen([*command, "--data-dir", tmp_path / "data"], stderr=full)
    stack = Stack(f"http://127.0.0.1:{port}", tmp_path / "data", process)
    try:
        api = _wait_for_api(stack)
        api.send_signal(signal.SIGKILL)
        assert _wait_for_api(stack) != api
    finally:
        process.send_signal(signal.SIGINT)
    assert process.wait() == 0


def _wait_for_api(stack: Stack) -> psutil.Process:
    """Return the process that answers, once one does."""
    while True:
        assert stack.process.poll() is None
        with suppress(httpx.TransportError), stack.http() as http:
            http.get("/readyz")
            return named(stack, "-m service serve")
        time.sleep(0.1)


def test_a_taken_port_is_said_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = run("up", "--port", port, "--data-dir", str(tmp_path / "data"))
    assert ended.returncode == 1
    assert f"Port {port} of 127.0.0.1 is taken" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "data").exists()


@with_the_shared_stack
def test_a_second_start_on_the_same_data_is_refused(stack: Stack) -> None:
    ended = run("up", "--port", "0", "--data-dir", str(stack.data_dir))
    assert ended.returncode == 1
    assert str(stack.process.pid) in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_missing_binary_is_said_with_its_remedy(tmp_path: Path) -> None:
    ended = run(
        "up", "--port", "0", "--data-dir", str(tmp_path / "data"), PHISCOPE_PG_BIN=str(tmp_path)
    )
    assert ended.returncode == 1
    assert str(tmp_path) in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_directory_that_is_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    ended = run("up", "--port", "0", "--data-dir", str(file / "data"))
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr


def test_other_machines_are_not_let_in_without_being_asked_for(tmp_path: Path) -> None:
    ended = run(
        "up",
        "--host",
        "0.0.0.0",  # noqa: S104 - it is to be refused
        "--port",
        "0",
        "--data-dir",
        str(tmp_path / "data"),
    )
    assert ended.returncode == 1
    assert "PHISCOPE_ALLOW_UNAUTHENTICATED" in ended.stderr


def test_one_url_without_the_other_is_refused(tmp_path: Path) -> None:
    ended = run(
        "up", "--port", "0", "--data-dir", str(tmp_path), PHISCOPE_BROKER_URL="redis://localhost"
    )
    assert ended.returncode == 1
    assert "Set both" in ended.stderr


@pytest.mark.parametrize("command", ["serve", "worker", "migrate"])
def test_the_parts_say_what_they_need(command: str) -> None:
    ended = run(command)
    assert ended.returncode == 1
    assert "PHISCOPE_" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_database_that_does_not_answer_is_said() -> None:
    url = "postgresql+psycopg://nobody@127.0.0.1:1/nothing"
    ended = run("migrate", PHISCOPE_DATABASE_URL=url)
    assert ended.returncode == 1
    assert "The database does not answer" in ended.stderr
    assert "Traceback" not in ended.stderr


@with_the_shared_stack
def test_another_host_header_is_refused(stack: Stack) -> None:
    response = httpx.get(f"{stack.url}/v1/models", headers={"Host": "evil.example"})
    assert response.status_code == 400


def test_version_is_printed() -> None:
    ended = run("--version")
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", ended.stdout)
