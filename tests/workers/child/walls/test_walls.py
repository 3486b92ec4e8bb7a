"""None of what native code may try in a child gets through, with the filter alone and with both."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import pytest

from service.contract.failures import FailureCode
from workers.child.walls import landlock, seccomp
from workers.protocol.requests import JobLimits, JobRequest
from workers.runner.outcome import Failed, Outcome, SecurityEvent, Succeeded
from workers.runner.supervisor import Runner

pytestmark = pytest.mark.xdist_group("walls")

Device = Literal["cpu", "cuda"]

SECRET = "the moon is made of basalt"
REFUSED = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENOTTY}


class Walled:
    """Runs attempts in children of a warm parent."""

    def __init__(self, runner: Runner, secret: Path, mode: str, device: Device = "cpu") -> None:
        self.runner = runner
        self.secret = secret
        self._mode = mode
        self._device: Device = device

    def run(self, kind: str, name: str = "") -> Outcome:
        return self.runner.run(
            JobRequest(kind=kind, arguments={"name": name}, device=self._device),
            [],
            deadline_s=600,
            limits=JobLimits.model_validate({"memory_bytes": 1 << 30, "landlock": self._mode}),
            on_tick=lambda _: True,
        )


@contextmanager
def walled(*, without: str = "", device: Device = "cpu") -> Iterator[Walled]:
    with TemporaryDirectory() as directory:
        # Nothing but the walls keeps an ordinary user from the secret.
        Path(directory).chmod(0o777)
        secret = Path(directory, "secret")
        secret.write_text(SECRET)
        secret.chmod(0o666)
        environment = {
            "PYTHONPATH": str(Path(__file__).parent),
            "ATTEMPTS_SECRET": str(secret),
            "ATTEMPTS_WITHOUT": without,
        }
        mode = "degrade" if "landlock" in without else "require"
        with Runner("attempts:JOBS", environment=environment, device=device) as runner:
            yield Walled(runner, secret, mode, device)


@pytest.fixture(scope="module", params=["", "landlock"], ids=["both_walls", "seccomp_alone"])
def walls(request: pytest.FixtureRequest) -> Iterator[Walled]:
    with walled(without=request.param) as found:
        yield found


@pytest.fixture(scope="module")
def without_seccomp() -> Iterator[Walled]:
    with walled(without="seccomp") as found:
        yield found


@pytest.fixture(scope="module")
def without_walls() -> Iterator[Walled]:
    with walled(without="seccomp landlock") as found:
        yield found


def names() -> list[str]:
    """Those that this machine's attempts have; imported here, where they do nothing."""
    sys.path.insert(0, str(Path(__file__).parent))
    os.environ.setdefault("ATTEMPTS_SECRET", "/nonexistent/secret")
    try:
        import attempts  # noqa: PLC0415 - its directory is on the path for this alone
    finally:
        sys.path.pop(0)
    return list(attempts.ATTEMPTS)


def test_this_kernel_has_both_walls() -> None:
    assert seccomp.is_available()
    assert landlock.version() >= 1


def test_there_are_many_attempts() -> None:
    assert len(names()) >= 100


@pytest.mark.parametrize("name", names())
def test_no_attempt_gets_through(walls: Walled, name: str) -> None:
    outcome = walls.run("make", name)
    if isinstance(outcome, Succeeded):
        answer = outcome.header["answer"]
        assert isinstance(answer, int)
        assert -answer in REFUSED, (name, answer)
    else:
        assert isinstance(outcome, Failed)
        assert outcome.failure.code == FailureCode.POLICY_VIOLATION
        assert outcome.event == SecurityEvent.POLICY_VIOLATION
    assert walls.secret.read_text() == SECRET
    assert [path.name for path in walls.secret.parent.iterdir()] == ["secret"]


# What an ordinary process may do: were it refused here, too, the walls would be proved by nothing.
ORDINARY = (
    "read_a_secret", "append_to_a_secret", "create_a_file", "read_a_files_size",
    "read_a_files_size_as_if_open", "see_whether_a_file_is_there", "ask_where_i_am", "go_elsewhere",
    "read_my_memory_map", "open_a_path_only", "open_a_directory", "open_an_internet_socket",
    "open_a_local_socket", "open_a_socket_pair", "map_shared_memory", "map_memory_that_grows",
    "make_a_memory_file", "make_an_event_file", "outlive_my_parent", "try_from_a_thread",
    "handle_my_own_end", "schedule_myself",
)  # fmt: skip


@pytest.mark.parametrize("name", ORDINARY)
def test_without_walls_it_would_have(without_walls: Walled, name: str) -> None:
    outcome = without_walls.run("make", name)
    (without_walls.secret.parent / "new").unlink(missing_ok=True)
    assert isinstance(outcome, Succeeded), outcome
    answer = outcome.header["answer"]
    assert isinstance(answer, int)
    assert answer >= 0


FILES = (
    "read_a_secret", "read_the_password_file", "open_a_directory", "overwrite_a_secret",
    "append_to_a_secret", "create_a_file", "create_a_nameless_file", "delete_a_secret",
    "make_a_directory", "make_a_link", "read_my_parents_memory", "cut_a_file", "run_a_program",
)  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_landlock_alone_keeps_files_closed(without_seccomp: Walled, name: str) -> None:
    outcome = without_seccomp.run("make", name)
    assert isinstance(outcome, Succeeded), outcome
    answer = outcome.header["answer"]
    assert isinstance(answer, int)
    assert -answer in REFUSED
    assert without_seccomp.secret.read_text() == SECRET


def test_a_child_is_nobody_in_particular(walls: Walled) -> None:
    outcome = walls.run("standing")
    assert isinstance(outcome, Succeeded), outcome
    expected = 65534 if os.getuid() == 0 else os.getuid()
    assert outcome.header["uid"] == expected


def test_the_parent_lives_through_all_of_it(walls: Walled) -> None:
    for name in ("kill_my_parent", "kill_everything", "fork", "trace_my_parent"):
        walls.run("make", name)
    assert isinstance(walls.run("standing"), Succeeded)


def test_a_child_that_requires_landlock_does_nothing_without() -> None:
    with walled(without="landlock") as found:
        strict = Walled(found.runner, found.secret, "require")
        outcome = strict.run("make", "ask_where_i_am")
    assert isinstance(outcome, Failed)
    assert outcome.failure.code == FailureCode.LOST
    assert outcome.event == SecurityEvent.NOT_CONFINED
    assert "could not confine" in outcome.failure.message
    assert "landlock_create_ruleset" in outcome.log


def test_a_child_that_may_do_without_landlock_says_so() -> None:
    with walled(without="landlock") as found:
        outcome = found.run("standing")
    assert isinstance(outcome, Succeeded)
    assert "no Landlock" in outcome.log
