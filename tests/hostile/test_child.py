"""Hostile archives in the child: it checks them again, and without its check the walls hold."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support import read_only

from tests.hostile.archives import HOSTILE
from tests.hostile.exports import HOSTILE_EXPORTS, OWNED
from workers.protocol.requests import JobLimits, JobRequest
from workers.runner.outcome import Failed, Outcome, Succeeded
from workers.runner.supervisor import Runner

pytestmark = pytest.mark.xdist_group("hostile child")

FILES = HOSTILE | HOSTILE_EXPORTS
# They would run a command while torch loads them.
COMMANDS = (
    "a weight that runs a command",
    "example inputs that run a command",
    "example inputs as a bare pickle",
    "a size that runs a command",
)


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    environment = {"PYTHONPATH": f"{Path(__file__).parent}"}
    with Runner("loading_jobs:JOBS", environment=environment) as running:
        yield running


def run(runner: Runner, kind: str, content: bytes, *, exported: bool) -> Outcome:
    with ExitStack() as opened:
        return runner.run(
            JobRequest(kind=kind, arguments={"exported": exported}),
            [read_only(content, opened)],
            deadline_s=600,
            limits=JobLimits(memory_bytes=1 << 30),
            on_tick=lambda _: True,
        )


@pytest.mark.parametrize("name", FILES)
def test_the_child_refuses_what_the_api_refuses(runner: Runner, name: str) -> None:
    outcome = run(runner, "load", FILES[name].make(), exported=name in HOSTILE_EXPORTS)
    assert isinstance(outcome, Failed)
    assert outcome.failure.code == FILES[name].code
    assert FILES[name].words in outcome.failure.message


@pytest.mark.parametrize("name", FILES)
def test_without_the_check_it_harms_nobody_else(runner: Runner, name: str) -> None:
    outcome = run(runner, "load_unchecked", FILES[name].make(), exported=name in HOSTILE_EXPORTS)
    if name in COMMANDS:
        assert isinstance(outcome, Failed)
        assert outcome.failure.code == "policy_violation"
    assert not Path(OWNED).exists()
    assert isinstance(run(runner, "nothing", b"", exported=False), Succeeded)
