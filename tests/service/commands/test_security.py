import subprocess
import sys

import pytest
from sqlalchemy.orm import Session
from support import ServedApi

from service.tables.security import Quarantine

pytestmark = pytest.mark.xdist_group("migrations")

DIGESTS = [f"{k:064x}" for k in range(60)]


def run(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service", "quarantine", *arguments, "--url", url],
        capture_output=True,
        text=True,
        check=False,
    )


def test_all_quarantined_files_are_listed_beyond_one_page(api: ServedApi) -> None:
    assert run(api.url, "list").stdout == ""
    with Session(api.engine) as session, session.begin():
        for sha256 in DIGESTS:
            session.add(Quarantine(sha256=sha256, strikes=3, reason="3 × crashed"))
            session.flush()
    listed = run(api.url, "list")
    assert listed.returncode == 0
    lines = listed.stdout.splitlines()
    assert [line.split()[0] for line in lines] == DIGESTS[::-1]
    assert all(line.endswith("3 × crashed") for line in lines)


def test_a_file_is_released_once(api: ServedApi) -> None:
    with Session(api.engine) as session, session.begin():
        session.add(Quarantine(sha256=DIGESTS[0], strikes=3, reason="3 × crashed"))
    released = run(api.url, "release", DIGESTS[0])
    assert (released.returncode, released.stdout) == (0, f"{DIGESTS[0]} is released.\n")
    again = run(api.url, "release", DIGESTS[0])
    assert again.returncode == 1
    assert "No file of SHA-256" in again.stderr
    assert "Traceback" not in again.stderr


def test_an_api_that_is_not_there_is_said() -> None:
    ended = run("http://127.0.0.1:1", "list")
    assert ended.returncode == 1
    assert "The API does not answer" in ended.stderr
    assert "Traceback" not in ended.stderr
