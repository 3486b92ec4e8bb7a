"""`phiscope demo`: a local Phiscope for the demonstration, and the program that trains and asks."""

import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from service.local.up import LocalPhiscope
from service.platform.settings import Settings

console = Console(highlight=False)


def run(port: int, data_dir: Path | None) -> int:
    """Start everything, run the demonstration against it, and stop everything.

    Args:
        port: Of the API; 0 for any free one.
        data_dir: Where its data stays; None for a directory that is removed afterwards.

    Returns:
        The exit status.

    Raises:
        LocalError: Something does not start.
    """
    with ExitStack() as undo:
        if data_dir is None:
            data_dir = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="phiscope-")))
            after = ["phiscope up", "phiscope demo --data-dir DIR"]
        else:
            after = [f"phiscope up --data-dir {data_dir}"]
        # Its own databases, whatever the environment says: a demonstration leaves others' alone.
        settings = Settings(data_dir=data_dir, database_url=None, broker_url=None, storage_url=None)
        console.print("Starting PostgreSQL, Valkey, the API and a worker …")
        phiscope = LocalPhiscope(
            settings, "127.0.0.1", port, announce=console.print, log_dir=data_dir / "logs"
        )
        undo.enter_context(phiscope)
        console.print(f"Phiscope listens at {phiscope.url}\n")
        # The program is named and not imported: it needs torch, this package does not.
        program = subprocess.Popen([sys.executable, "-m", "workers.commands.demo", phiscope.url])
        try:
            phiscope.wait(until=lambda: program.poll() is not None)
        finally:
            program.terminate()
            status = program.wait()
    if status == 0:
        _say_what_next(after)
    return status


def _say_what_next(commands: list[str]) -> None:
    console.print("\nWhere to look next")
    meanings = (
        "a server of your own, with /docs and /guide",
        "the same demo; DIR keeps its reports",
    )
    for command, meaning in zip(commands, meanings, strict=False):
        console.print(f"  {command:30} {meaning}")
    console.print("  README.md                      your own model, in a few commands with curl")
