"""`phiscope probe`: making probe files."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

cli = typer.Typer(help="Make probe files of what you have.", no_args_is_help=True)


@cli.command()
def make(
    source: Annotated[
        str,
        typer.Argument(
            help="`module:attribute` of a torch Dataset or DataLoader, of a Hugging Face dataset, "
            "or of a function that returns one; a folder of images in folders, or that "
            "save_to_disk has written; a .pt file of tensors; or a probe file, to be checked."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Argument(help="The file to write. Default: probe.npz, and probe.tar for a folder."),
    ] = None,
    *,
    model: Annotated[
        Path | None,
        typer.Option(help="Try this model (TorchScript or torch.export) on it at once."),
    ] = None,
    spec: Annotated[
        str | None,
        typer.Option(help='Keys of the spec, as JSON, such as \'{"transform": {"scale": 1}}\'.'),
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Name of the target, where samples are dicts.")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="The most samples; of more, some are drawn at random.")
    ] = 10_000,
    server: Annotated[
        str | None, typer.Option(help="Register the probe at this address, too.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Under this name. Default: that of the file.")
    ] = None,
) -> None:
    """Turn a dataset into a probe file with its spec, and read it back as a worker would."""
    if find_spec("torch") is None:
        raise ValueError('This needs torch. Install it with: pip install "phiscope[worker]"')
    options = {
        "spec": spec,
        "target": target,
        "limit": limit,
        "model": model,
        "server": server,
        "name": name,
    }
    given = [f"--{key}={value}" for key, value in options.items() if value is not None]
    # The program is named and not imported: it needs torch, this package does not.
    command = [sys.executable, "-m", "workers.commands.making", *given, "--", source]
    command += [] if out is None else [str(out)]
    raise typer.Exit(subprocess.run(command, check=False).returncode)
