import signal
import time
from pathlib import Path

import pytest

from service.local import Child, LocalError


def test_ready_when_it_says_so(tmp_path: Path) -> None:
    sign = tmp_path / "sign"
    child = Child("server", ["sh", "-c", f"sleep 0.2; touch {sign}; exec sleep 60"])
    child.start()
    child.wait_ready(sign.exists, 300)
    assert child.poll() is None
    child.stop()
    assert child.poll() == -signal.SIGTERM


def test_ended_before_it_was_ready_shows_the_end_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    script = "for i in $(seq 1000); do echo line $i; done; echo out of luck >&2; exit 3"
    child = Child("server", ["sh", "-c", script], log=log)
    child.start()
    with pytest.raises(LocalError) as it:
        child.wait_ready(lambda: False, 300)
    first, *shown = str(it.value).splitlines()
    assert first == f"server ended before it was ready (exit status 3). The end of its log, {log}:"
    assert shown[-1] == "    out of luck"
    assert len(shown) == 15


def test_not_ready_in_time_is_killed(tmp_path: Path) -> None:
    child = Child("server", ["sleep", "60"], log=tmp_path / "server.log")
    child.start()
    with pytest.raises(LocalError, match=r"was not ready within 0\.2 s \(killed by SIGKILL\)"):
        child.wait_ready(lambda: False, 0.2)
    assert child.poll() == -signal.SIGKILL


def test_program_that_does_not_exist(tmp_path: Path) -> None:
    child = Child("server", [str(tmp_path / "nothing")], log=tmp_path / "server.log")
    child.start()
    with pytest.raises(LocalError, match=r"Cannot run .*/nothing: No such file"):
        child.wait_ready(lambda: False, 300)


def test_stubborn_child_is_killed_after_its_grace(tmp_path: Path) -> None:
    sign = tmp_path / "sign"
    child = Child(
        "server", ["sh", "-c", f"trap '' TERM; touch {sign}; while :; do sleep 0.1; done"]
    )
    child.stop_seconds = 0.5
    child.start()
    child.wait_ready(sign.exists, 300)
    started = time.monotonic()
    child.stop()
    assert child.poll() == -signal.SIGKILL
    assert time.monotonic() - started > 0.4


def test_one_earlier_log_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    for word in ("first", "second", "third"):
        child = Child("server", ["echo", word], log=log)
        child.start()
        while child.poll() is None:
            time.sleep(0.01)
    assert log.read_text() == "third\n"
    assert (tmp_path / "server.log.1").read_text() == "second\n"
    assert len(list(tmp_path.iterdir())) == 2


def test_stopping_what_never_ran_does_nothing() -> None:
    child = Child("server", ["sleep", "60"])
    child.stop()
    child.kill()
    assert child.poll() is None
    assert child.pid is None
