"""The command `phiscope`."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console
from sqlalchemy.exc import OperationalError

from service import __version__
from service.client import ApiError
from service.commands import probes, store
from service.commands import security as quarantine
from service.http.listening import describe, listen
from service.local.errors import LocalError
from service.local.supervisor import unwind_on_termination
from service.local.up import LocalPhiscope
from service.platform import logs
from service.platform.database import open_engine
from service.platform.migration import refuse_other_schema, upgrade
from service.platform.settings import Settings

cli = typer.Typer(
    name="phiscope",
    help="Shows what a neural network has learned, and whether it learned it with the fewest "
    "features it needs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
cli.add_typer(quarantine.cli, name="quarantine")
cli.add_typer(probes.cli, name="probe")
cli.command("check-store")(store.check_store)
_terminal = Console(stderr=True, highlight=False)

Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any free one.")]
DataDir = Annotated[
    Path | None,
    typer.Option(help="Where data is kept. [default: ~/.local/share/phiscope]", show_default=False),
]

DEFAULT_PORT = 8000


def main() -> None:
    """Run the command line; a failure is one message and exit status 1, never a traceback."""
    try:
        cli()
    except (LocalError, ValueError) as error:
        _fail(str(error))
    except OperationalError as error:
        _fail(f"The database does not answer: {str(error.orig).strip()}")
    except ApiError as error:
        _fail(error.problem.get("detail") or str(error))
    except httpx.TransportError as error:
        _fail(f"The API does not answer: {error}. Is it up, and at the address that --url says?")


def _say(message: str) -> None:
    """Print a line for the person at the terminal.

    If that fails, the program goes on: the log may be on a full disk, or nobody reads the pipe.
    """
    # rich raises SystemExit where it finds that nobody reads the pipe.
    with suppress(OSError, SystemExit):
        _terminal.print(message, soft_wrap=True)


def _fail(message: str) -> None:
    _say(f"[bold red]phiscope:[/] {message}")
    sys.exit(1)


@cli.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@cli.command()
def up(host: Host = "127.0.0.1", port: Port = DEFAULT_PORT, data_dir: DataDir = None) -> None:
    """Start everything: API and worker, and databases of its own unless their URLs are set."""
    with (
        _until_interrupted(),
        LocalPhiscope(_settings(data_dir), host, port, announce=_say) as phiscope,
    ):
        _say(f"[bold]Phiscope[/] {__version__} is up: [bold]{phiscope.url}[/]")
        _say(f"  {phiscope.url}/docs   the API, to read and to try")
        _say(f"  {phiscope.url}/guide  what every figure means")
        _say(f"  {phiscope.data_dir}  holds its data")
        _say("  No API keys in this version. Ctrl-C stops it.")
        phiscope.wait()


@cli.command()
def demo(
    port: Port = 0,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Keep the demo's data here instead of throwing it away."),
    ] = None,
) -> None:
    """Train a small network and a lazy twin, and watch their features through the API."""
    _require_workers()
    from service.local.demonstration import run  # noqa: PLC0415 - nobody else needs its imports

    with _until_interrupted():
        raise typer.Exit(run(port, data_dir))


@cli.command()
def serve(
    host: Host = "127.0.0.1",
    port: Port = DEFAULT_PORT,
    data_dir: DataDir = None,
    fd: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run the API alone. PHISCOPE_DATABASE_URL and PHISCOPE_BROKER_URL name its databases."""
    # No other command needs the API, which takes longest to import.
    import uvicorn  # noqa: PLC0415

    from service.app import create_app  # noqa: PLC0415
    from service.http.serving import configured  # noqa: PLC0415

    settings = _settings(data_dir)
    logs.configure(as_json=settings.log_json)
    refuse_other_schema(settings)
    listening = listen(host, port, settings) if fd is None else socket.socket(fileno=fd)
    app = create_app(settings)
    if fd is None:
        _say(f"Phiscope's API listens at [bold]{describe(listening)}[/]")
    uvicorn.Server(configured(app)).run(sockets=[listening])


@cli.command()
def worker(data_dir: DataDir = None) -> None:
    """Run a worker alone."""
    _require_workers()
    settings = _settings(data_dir)
    # The worker is a program of its own, which this package knows by name only.
    environment = os.environ | {"PHISCOPE_DATA_DIR": str(settings.data_dir.absolute())}
    os.execve(sys.executable, [sys.executable, "-m", "workers"], environment)  # noqa: S606 - no shell


@cli.command()
def migrate() -> None:
    """Bring the database named by PHISCOPE_DATABASE_URL to this version."""
    engine = open_engine(Settings(), patience=None)
    upgrade(engine)
    engine.dispose()
    _say("The database is up to date.")


def _settings(data_dir: Path | None) -> Settings:
    return Settings() if data_dir is None else Settings(data_dir=data_dir)


def _require_workers() -> None:
    if find_spec("torch") is None:
        raise ValueError(
            'This needs torch. Install the workers with: pip install "phiscope[worker,local]"'
        )


@contextmanager
def _until_interrupted() -> Iterator[None]:
    """Make Ctrl-C, and SIGTERM with it, an ordinary end that unwinds what was started."""
    with unwind_on_termination():
        try:
            yield
        except KeyboardInterrupt:
            _say("Stopped.")
