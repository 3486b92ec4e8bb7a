"""`phiscope quarantine`: what an operator does about files that crash or misbehave."""

from typing import Annotated

import typer

from service.client import Client

cli = typer.Typer(
    help="Show and release files that no job opens, because they crashed or misbehaved.",
    no_args_is_help=True,
)

Url = Annotated[str, typer.Option(help="Address of the API.")]

DEFAULT_URL = "http://localhost:8000"


@cli.command("list")
def list_quarantines(url: Url = DEFAULT_URL) -> None:
    """List the quarantined files, newest first: SHA-256, since when, and why."""
    with Client(url) as client:
        for each in client.quarantines():
            typer.echo(f"{each['sha256']}  {each['created_at']}  {each['reason']}")


@cli.command()
def release(
    sha256: Annotated[str, typer.Argument(help="Of the file, as `list` and the error say it.")],
    url: Url = DEFAULT_URL,
) -> None:
    """Let jobs open a file again; what it does from now on counts anew."""
    with Client(url) as client:
        client.release(sha256)
    typer.echo(f"{sha256} is released.")
