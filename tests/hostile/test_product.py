"""Hostile files through the product: each is stopped with the right code, and nothing else ends."""

import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from support import Stack, running_stack, scripted

from service.client import AnalysisFailedError, ApiError, Client
from service.contract.failures import FailureCode
from tests.hostile.archives import HOSTILE
from tests.hostile.exports import BREAKOUTS, HOSTILE_EXPORTS, OWNED, reading
from tests.hostile.probes import HOSTILE_PROBES
from tests.hostile.programs import PROGRAMS, Base

pytestmark = pytest.mark.xdist_group("hostile")

SECRET = "phiscope-planted-secret-4711"
REFUSALS = (
    FailureCode.PROBE_UNREADABLE,
    FailureCode.NON_FINITE,
    FailureCode.TOO_FEW_SAMPLES,
    FailureCode.OUT_OF_MEMORY,
)
LITTLE_MEMORY = {"PHISCOPE_JOB_MEMORY_BYTES": str(1536 << 20)}
LITTLE_TIME = {"PHISCOPE_JOB_SECONDS": "2"}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack whose jobs may take little memory, and whose environment holds a secret.

    However slow the machine, none of its jobs ends for want of time.
    """
    directory = tmp_path_factory.mktemp("small")
    with running_stack(directory / "data", PLANTED=SECRET, **LITTLE_MEMORY) as running:
        yield running


@pytest.fixture(scope="module")
def guarded(small: Stack) -> Iterator[Client]:
    with small.client() as client:
        yield client


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Another, whose jobs may take little time: for programs that never end."""
    directory = tmp_path_factory.mktemp("impatient")
    with running_stack(directory / "data", PLANTED=SECRET, **LITTLE_TIME) as running:
        yield running


@pytest.fixture
def guarding(request: pytest.FixtureRequest, name: str) -> Iterator[Client]:
    """The stack for a program."""
    stack = "impatient" if PROGRAMS[name].codes == (FailureCode.TIME_LIMIT,) else "small"
    with request.getfixturevalue(stack).client() as client:
        yield client


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A file that is not there, and that whoever runs may make."""
    with TemporaryDirectory() as directory:
        Path(directory).chmod(0o777)
        yield Path(directory, "owned")


FILES = HOSTILE | HOSTILE_EXPORTS


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_archive_is_refused_at_upload(guarded: Client, name: str) -> None:
    with pytest.raises(ApiError) as refused:
        guarded.upload_model(io.BytesIO(FILES[name].make()), name="hostile")
    problem = refused.value.problem
    assert (refused.value.status, problem["code"]) == (422, FILES[name].code)
    assert FILES[name].words in problem["detail"]


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_hostile_program_ends_with_its_job(guarding: Client, name: str) -> None:
    program = PROGRAMS[name]
    model = guarding.upload_model(io.BytesIO(scripted(program.make())), name=name)
    answer: Any
    if program.codes:
        with pytest.raises(AnalysisFailedError) as failed:
            guarding.analyse(model["id"], "builtin:digits")
        answer = failed.value.analysis
        assert answer["error"]["code"] in program.codes
        assert answer["error"]["message"].isprintable()
        assert len(answer["error"]["message"]) < 4000
    else:
        answer = guarding.analyse(model["id"], "builtin:digits")
    assert SECRET not in json.dumps(answer)


@pytest.mark.parametrize("name", BREAKOUTS)
def test_what_evades_the_checks_stands_before_the_walls(
    guarded: Client, name: str, reachable: Path
) -> None:
    model = guarded.upload_model(io.BytesIO(BREAKOUTS[name](reachable)), name=name)
    with pytest.raises(AnalysisFailedError) as failed:
        guarded.analyse(model["id"], "builtin:digits")
    answer: Any = failed.value.analysis
    assert answer["error"]["code"] == FailureCode.POLICY_VIOLATION
    assert SECRET not in json.dumps(answer)
    assert not reachable.exists()


def run_without_walls(content: bytes, directory: Path) -> int:
    """The exit status of a process that loads and runs an exported program."""
    model = directory / "model.pt2"
    model.write_bytes(content)
    code = "import sys, torch; torch.export.load(sys.argv[1]).module()(torch.rand(4, 1, 8, 8))"
    return subprocess.run([sys.executable, "-c", code, model], check=False).returncode


@pytest.mark.parametrize("name", BREAKOUTS)
def test_without_walls_they_would_have(name: str, reachable: Path, tmp_path: Path) -> None:
    """So that the test above can fail."""
    run_without_walls(BREAKOUTS[name](reachable), tmp_path)
    assert reachable.exists()


def test_a_file_that_all_may_read_stays_unread(
    guarded: Client, reachable: Path, tmp_path: Path
) -> None:
    reachable.write_text(SECRET)
    assert run_without_walls(reading(reachable), tmp_path) == 0
    model = guarded.upload_model(io.BytesIO(reading(reachable)), name="reading")
    with pytest.raises(AnalysisFailedError) as failed:
        guarded.analyse(model["id"], "builtin:digits")
    error = failed.value.analysis["error"]
    assert error["code"] == FailureCode.INPUT_MISMATCH
    assert "Permission denied" in error["message"]


@pytest.mark.parametrize("name", HOSTILE_PROBES)
def test_a_hostile_probe_is_refused_by_the_worker(guarded: Client, small: Stack, name: str) -> None:
    content = io.BytesIO(HOSTILE_PROBES[name]())
    probe = guarded.register_probe(content, name="hostile", spec={"input": "x"})
    with small.http() as http:
        while probe["status"] == "validating":
            time.sleep(0.05)
            probe = http.get(f"/v1/probes/{probe['id']}").json()
    assert probe["status"] == "failed"
    assert probe["error"]["code"] in REFUSALS
    assert probe["error"]["message"].isprintable()
    assert SECRET not in json.dumps(probe)


def test_after_all_of_it_an_honest_model_is_analysed(
    guarded: Client, small: Stack, impatient: Stack
) -> None:
    model = guarded.upload_model(io.BytesIO(scripted(Base())), name="honest")
    assert guarded.analyse(model["id"], "builtin:digits")["verdict"]
    # Nothing was written that the archives ask for, and the worker is the one that began.
    assert not Path(OWNED).exists()
    for stack in (small, impatient):
        with stack.http() as http:
            assert http.get("/readyz").json()["workers"]["live"] == 1
        output = Path(f"{stack.data_dir}.out").read_text()
        assert "\x1b]0;owned" not in output
        assert SECRET not in output
