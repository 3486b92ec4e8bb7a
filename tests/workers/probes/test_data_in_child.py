"""The same files in the child, which can open nothing and import nothing."""

from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import pytest
from support import read_only

from tests.hostile.probes import HOSTILE_PROBES
from tests.workers.probes.data import CASES
from tests.workers.probes.data.case import Case
from workers.protocol.requests import JobLimits, JobRequest
from workers.runner.outcome import Failed, Outcome, Succeeded
from workers.runner.supervisor import Runner

pytestmark = pytest.mark.xdist_group("data in child")

MEMORY = 384 << 20
REFUSALS = {"probe_unreadable", "non_finite", "out_of_memory"}
DATA_CODES = REFUSALS | {"too_few_samples", "input_mismatch"}


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    with Runner("workers.jobs:JOBS") as running:
        yield running


def validate(runner: Runner, content: bytes, spec: object) -> Outcome:
    with ExitStack() as opened:
        return runner.run(
            JobRequest(
                kind="validate_probe", arguments={"spec": dict(spec), "max_bytes": MEMORY // 4}
            ),
            [read_only(content, opened)],
            deadline_s=600,
            limits=JobLimits(memory_bytes=MEMORY),
            on_tick=lambda _: True,
        )


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_child_reads_what_is_read_outside(runner: Runner, case: Case) -> None:
    outcome = validate(runner, case.make(), case.spec)
    if case.refused is None:
        assert isinstance(outcome, Succeeded), outcome
        assert case.x is not None
        assert outcome.header["n"] == len(case.x)
    else:
        assert isinstance(outcome, Failed)
        assert outcome.failure.code == "probe_unreadable"
        assert case.refused in outcome.failure.message


@pytest.mark.parametrize("name", HOSTILE_PROBES)
def test_hostile_files_are_refused_and_end_nothing(runner: Runner, name: str) -> None:
    outcome = validate(runner, HOSTILE_PROBES[name](), {})
    assert isinstance(outcome, Failed)
    assert outcome.failure.code in REFUSALS
    assert outcome.failure.hint


@pytest.mark.parametrize(
    "kind", ["parquet", "parquet_images", "arrow", "saved_datasets", "csv", "imagefolder"]
)
def test_any_damage_is_refused_or_harmless(runner: Runner, kind: str) -> None:
    random = np.random.default_rng(0)
    wholes = [case.make() for case in CASES if case.kind == kind and case.refused is None]
    for trial in range(40):
        content = bytearray(wholes[trial % len(wholes)])
        for at in random.integers(0, len(content), random.integers(1, 6)):
            content[at] = random.integers(0, 256)
        if trial % 5 == 0:
            del content[random.integers(1, len(content)) :]
        outcome = validate(runner, bytes(content), {})
        if isinstance(outcome, Failed):
            assert outcome.failure.code in DATA_CODES, outcome.failure
            assert outcome.failure.hint
