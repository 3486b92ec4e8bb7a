"""What is said of memory beforehand is what it takes, measured by the kernel's own limit."""

import subprocess
import sys
from pathlib import Path

import pytest
import within_memory

from workers.diagnostics.plan import Problem

ROOT = Path(__file__).parents[3]


def run_within(problem: Problem, limit: int) -> int:
    sizes = [str(each) for each in (problem.rows, problem.p, problem.c, limit)]
    command = [sys.executable, within_memory.__file__, *sizes]
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, check=False, timeout=280).returncode


@pytest.mark.parametrize(("rows", "p", "c"), [(700, 600, 10), (400, 380, 300), (200, 6000, 10)])
def test_a_problem_fits_into_what_is_planned_and_not_into_40_percent(
    rows: int, p: int, c: int
) -> None:
    problem = Problem(rows, p, c, c)
    assert run_within(problem, problem.memory_bytes) == 0
    too_little = int(0.4 * problem.memory_bytes)
    assert run_within(problem, too_little) == within_memory.OUT_OF_MEMORY


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
