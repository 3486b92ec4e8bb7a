"""What is said of memory beforehand is what it takes, measured by the kernel's own limit."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import within_memory

from workers.diagnostics.plan import Problem

ROOT = Path(__file__).parents[3]


pytestmark = pytest.mark.xdist_group("plan")

RunWithin = Callable[[Problem, int], int]


@pytest.fixture(scope="module")
def run_within() -> Iterator[RunWithin]:
    """Solves a problem within a limit, in a process that has imported all that it needs."""
    with subprocess.Popen(
        [sys.executable, within_memory.__file__],
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        given, answers = process.stdin, process.stdout
        assert given is not None
        assert answers is not None

        def ask(problem: Problem, limit: int) -> int:
            numbers = (problem.rows, problem.p, problem.c, int(problem.by_class), limit)
            print(*numbers, file=given, flush=True)
            return int(answers.readline())

        yield ask
        given.close()


@pytest.mark.parametrize(("rows", "p", "c"), [(700, 600, 10), (400, 380, 300), (200, 6000, 10)])
def test_a_problem_fits_into_what_is_planned_and_not_into_40_percent(
    run_within: RunWithin, rows: int, p: int, c: int
) -> None:
    problem = Problem(rows, p, c, c)
    assert run_within(problem, problem.memory_bytes) == 0
    too_little = int(0.4 * problem.memory_bytes)
    assert run_within(problem, too_little) == within_memory.OUT_OF_MEMORY


def kept_rows(problem: Problem) -> int:
    """What single rows take beside: features in float32, and in float64 once projected."""
    return 12 * problem.rows * problem.p


@pytest.mark.parametrize(("rows", "p", "c"), [(1500, 128, 8000), (300, 32, 2500), (200, 500, 4000)])
def test_many_classes_fit_into_what_is_planned(
    run_within: RunWithin, rows: int, p: int, c: int
) -> None:
    problem = Problem(rows, p, c, c, by_class=True, head=True)
    assert run_within(problem, problem.memory_bytes + kept_rows(problem)) == 0


def test_many_classes_do_not_fit_into_40_percent(run_within: RunWithin) -> None:
    problem = Problem(1500, 128, 8000, 8000, by_class=True, head=True)
    too_little = int(0.4 * problem.memory_bytes) + kept_rows(problem)
    assert run_within(problem, too_little) == within_memory.OUT_OF_MEMORY


def test_classes_cost_what_occurs_and_outputs_what_the_head_can_reach() -> None:
    ten_thousand = Problem(20_000, 512, 10_000, 10_000, by_class=True, head=True)
    assert ten_thousand.memory_bytes < 4 << 30
    assert ten_thousand.artifact_bytes < 128 << 20
    language_model = Problem(8_000, 768, 65_536, 65_536, by_class=True, head=True)
    assert language_model.memory_bytes < 6 << 30
    assert language_model.artifact_bytes < 256 << 20
    # Of values, or of a head that is not known, nothing is known beforehand.
    values = Problem(8_000, 768, 65_536, 65_536, head=True)
    unknown = Problem(80_000, 768, 65_536, 65_536, by_class=True)
    assert min(values.memory_bytes, unknown.memory_bytes) > 200 << 30


def test_a_second_probe_takes_more_where_there_are_many_classes() -> None:
    few = Problem(20_000, 512, 10, 10, by_class=True, head=True)
    assert replace(few, held_out=True).memory_bytes == few.memory_bytes
    many = Problem(20_000, 512, 10_000, 10_000, by_class=True, head=True)
    assert many.memory_bytes < replace(many, held_out=True).memory_bytes < 2 << 30


def test_fewer_rows_than_before_may_fit_though_more_than_features() -> None:
    problem = Problem(200_000, 768, 65_536, 65_536, by_class=True, head=True)
    memory = 6 << 30
    assert problem.memory_bytes > memory
    most = problem.most_rows(memory, 1 << 30)
    assert 8_000 < most < 200_000
    fitting, above = (replace(problem, rows=most + more) for more in (0, 1))
    assert fitting.memory_bytes <= memory < above.memory_bytes


def test_rows_decide_the_method() -> None:
    assert Problem(1000, 1000, 10, 10).method == "full"
    assert Problem(999, 1000, 10, 10).method == "dual"
    assert Problem(300, 16_384, 10, 10).memory_bytes < 512 << 20
    assert Problem(50_000, 16_384, 10, 10).memory_bytes > 40 << 30


def test_most_rows_fit_and_one_more_does_not() -> None:
    problem = Problem(50_000, 16_384, 1000, 1000)
    for memory, artifact in ((8 << 30, 1 << 30), (64 << 30, 1 << 30), (4 << 30, 64 << 30)):
        most = problem.most_rows(memory, artifact)
        fitting, above = (Problem(most + more, 16_384, 1000, 1000) for more in (0, 1))
        assert 100 < most < 16_384
        assert fitting.memory_bytes <= memory
        assert fitting.artifact_bytes <= artifact
        assert above.memory_bytes > memory or above.artifact_bytes > artifact
    assert problem.most_rows(1 << 20, 1 << 30) == 0


def test_the_artifact_is_as_large_as_its_sums() -> None:
    # 8 bytes for each of Σ over 1, Φ, F, Y and their products, symmetric ones twice.
    assert Problem(50, 20, 3, 2).artifact_bytes == 8 * (20 + 3 + 2 + 400 + 9 + 4 + 60 + 40 + 6 + 2)
    assert Problem(10, 20, 3, 2).artifact_bytes == 8 * (
        10 + 3 + 2 + 100 + 9 + 4 + 30 + 20 + 6 + 2 + 10 * 20
    )


@pytest.mark.parametrize(
    ("problem", "share", "suits"),
    [
        (Problem(4_000, 512, 10, 10), 2.0, True),
        (Problem(4_000, 512, 10, 10), 1.9, False),
        (Problem(4_000, 511, 10, 10), 100.0, False),
        (Problem(300, 4_096, 10, 10), 100.0, False),
    ],
    ids=["large enough", "too little memory", "few features", "few rows"],
)
def test_large_problems_are_for_a_gpu_that_has_room(
    problem: Problem, share: float, suits: bool
) -> None:
    assert problem.suits_gpu(int(share * problem.memory_bytes)) == suits
