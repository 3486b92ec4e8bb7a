"""What tests of the running product use: a real stack, and models and probes to send to it."""

import io
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from sqlalchemy import Engine, create_engine
from torch import nn

from service.client import Client
from service.local import LocalDatabases
from service.platform.migration import upgrade
from service.tables.workers import Worker
from workers.protocol.requests import Ended

# As people get it, but for how soon the relay looks again.
QUICK = {"PHISCOPE_POLL_SECONDS": "0.5"}
# What has not ended by then never will, however slow the machine.
HANGS_SECONDS = 300

Digits = tuple[np.ndarray, np.ndarray]
"""Images and labels."""


@dataclass
class Stack:
    """A running `phiscope up`."""

    url: str
    data_dir: Path
    process: subprocess.Popen[str]

    def client(self) -> Client:
        return Client(self.url)

    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=600)


@contextmanager
def running_stack(data_dir: Path, *arguments: str, **environment: str) -> Iterator[Stack]:
    """Run `phiscope up` as people do, on a port that is free."""
    output = data_dir.parent / f"{data_dir.name}.out"
    command = [sys.executable, "-m", "service", "up", "--port", "0", "--data-dir", str(data_dir)]
    clean = {name: value for name, value in os.environ.items() if "PHISCOPE" not in name}
    with output.open("w") as file:
        process = subprocess.Popen(
            [*command, *arguments],
            env=clean | QUICK | environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        yield Stack(_await_url(process, output), data_dir, process)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(HANGS_SECONDS)


def _await_url(process: subprocess.Popen[str], output: Path) -> str:
    while process.poll() is None:
        match = re.search(r"is up: (http://\S+)", output.read_text())
        if match:
            return match[1]
        time.sleep(0.05)
    raise AssertionError(f"phiscope up did not come up:\n{output.read_text()}")


@dataclass
class ServedApi:
    """The API alone, with no worker, and the database behind it."""

    url: str
    engine: Engine
    pid: int
    blobs: Path

    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=600)


@contextmanager
def served_api(directory: Path) -> Iterator[ServedApi]:
    """Run `phiscope serve` on databases of its own."""
    with (
        LocalDatabases(directory / "databases") as local,
        socket.create_server(("127.0.0.1", 0)) as at,
    ):
        engine = create_engine(local.database_url)
        upgrade(engine)
        process = subprocess.Popen(
            [sys.executable, "-m", "service", "serve", "--fd", str(at.fileno())],
            env=os.environ
            | {
                "PHISCOPE_DATABASE_URL": local.database_url,
                "PHISCOPE_BROKER_URL": local.broker_url,
                "PHISCOPE_DATA_DIR": str(directory / "data"),
            },
            pass_fds=[at.fileno()],
        )
        try:
            yield ServedApi(
                f"http://127.0.0.1:{at.getsockname()[1]}",
                engine,
                process.pid,
                directory / "data" / "blobs",
            )
        finally:
            process.terminate()
            process.wait(HANGS_SECONDS)
            engine.dispose()


ENDED_WELL = Ended(
    exit_code=0,
    signal=None,
    max_rss_bytes=1,
    user_seconds=0,
    system_seconds=0,
    fork_seconds=0,
    wall_seconds=0,
)
"""The end of a child that did its job."""


def live_worker(
    name: str = "host:1", landlock: int = 7, silent: float = 0, device: str = "cpu"
) -> Worker:
    """The entry of a worker that was heard of so many seconds ago."""
    now = datetime.now(UTC)
    return Worker(
        name=name,
        started_at=now,
        seen_at=now - timedelta(seconds=silent),
        device=device,
        landlock=landlock,
        slots=1,
        version="1",
    )


@contextmanager
def small_disk(directory: Path, size_bytes: int) -> Iterator[Path]:
    """Give a directory a file system of its own, which is soon full; skip where that is denied."""
    directory.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=755", "small", directory]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("who runs the tests may not mount a small disk")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


def fill(path: Path) -> None:
    """Write a file until its disk is full."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)) == 4096:
            pass


def read_only(content: bytes, opened: ExitStack) -> int:
    """A descriptor of a file that is gone from its directory, for reading only."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        fd = os.open(file.name, os.O_RDONLY)
    opened.callback(os.close, fd)
    return fd


def npz(**arrays: np.ndarray) -> bytes:
    """Write arrays as an npz file."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


@contextmanager
def quiet() -> Iterator[None]:
    """Lets torch announce the end of TorchScript, as it does at every call, without being heard."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def scripted(model: nn.Module) -> bytes:
    """Save a model as a TorchScript archive."""
    buffer = io.BytesIO()
    with quiet():
        torch.jit.save(torch.jit.script(model.eval()), buffer)
    return buffer.getvalue()


def traced(model: nn.Module, *example: torch.Tensor) -> bytes:
    """Save a model as what it did with an example."""
    buffer = io.BytesIO()
    with quiet():
        # Tests find out themselves whether the archive does what the model does.
        torch.jit.save(torch.jit.trace(model.eval(), example, check_trace=False), buffer)
    return buffer.getvalue()


def exported(model: nn.Module, example: torch.Tensor) -> bytes:
    """Save a model as a torch.export archive that takes any number of samples."""
    buffer = io.BytesIO()
    batch = torch.export.Dim("batch")
    program = torch.export.export(model.eval(), (example,), dynamic_shapes=({0: batch},))
    torch.export.save(program, buffer)
    return buffer.getvalue()


def multilayer(width: int = 64, seed: int = 0) -> nn.Sequential:
    """Build a small network for `digits`, as it is initialised."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


MINUTES = 200_000
"""Rounds of a model that a test stops: far more than it needs, yet not without end if it fails."""


class Slow(nn.Module):
    """Takes its time for every batch, so that a test can look while it runs.

    Args:
        rounds: A thousand take about a second, and an analysis runs the model some eight times.
    """

    def __init__(self, rounds: int = 1000) -> None:
        super().__init__()
        self.rounds = rounds
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        noise = torch.ones(200, 200)
        for _ in range(self.rounds):
            noise = noise.matmul(noise) / 200
        return self.head(torch.relu(x) + noise[0, 0])


def send_slow(client: Client, rounds: int = 500) -> dict[str, Any]:
    """Start an analysis that takes some seconds, or as many rounds, and succeeds."""
    random = np.random.default_rng(0)
    content = npz(x=random.random((120, 64), dtype=np.float32), y=np.arange(120) % 10)
    name = f"slow-{uuid.uuid4().hex}"
    probe = client.register_probe(io.BytesIO(content), name=name, spec={"transform": {}})
    model = client.upload_model(io.BytesIO(scripted(Slow(rounds))), name=name)
    return client.start(model["id"], probe["id"])


def flattening() -> bytes:
    """Save a network that takes images of 8×8 pixels."""
    return scripted(nn.Sequential(nn.Flatten(), *multilayer()))
