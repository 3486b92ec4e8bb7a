"""What becomes of a job while the store is away."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast
from uuid import UUID

import pytest
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

from service.platform.settings import Settings
from service.tables import queue
from service.tables.analyses import Analysis
from service.tables.jobs import Job, JobState
from tests.workers.supervision.bench import Bench
from workers.runner.supervisor import Runner
from workers.supervision.executor import Executor

pytestmark = pytest.mark.xdist_group("migrations")


@contextmanager
def store_away(bench: Bench, seconds: float) -> Iterator[None]:
    """A store that cannot be read, for so long or until the end."""
    blobs, aside = bench.directory / "sha256", bench.directory / "aside"
    blobs.rename(aside)
    blobs.write_bytes(b"")

    def bring_back() -> None:
        blobs.unlink()
        aside.rename(blobs)

    timer = threading.Timer(seconds, bring_back)
    timer.start()
    yield
    timer.join() if seconds < 10 else timer.cancel()


def executor(bench: Bench, patience: float = 600) -> Executor:
    runner = cast("Runner", bench.runner)
    settings = Settings(max_attempts=2)
    return Executor(
        settings, bench.engine, bench.store, runner, "h:1", store_patience_seconds=patience
    )


def look(bench: Bench, job: UUID) -> tuple[Job, Any]:
    with Session(bench.engine, expire_on_commit=False) as session:
        row = session.get_one(Job, job)
        return row, session.get_one(Analysis, row.subject_id)


def started(bench: Bench, running: Executor, job: UUID) -> threading.Thread:
    """Run a job in a thread, until it waits for the store."""
    thread = threading.Thread(target=running.run, args=[job])
    thread.start()
    while look(bench, job)[1].progress.get("stage") != "waiting_for_storage":
        time.sleep(0.02)
    return thread


def test_a_job_waits_for_the_store_and_says_so(bench: Bench) -> None:
    job = bench.analysis()
    with capture_logs() as logs, store_away(bench, 2):
        started(bench, executor(bench), job).join()
    assert (bench.runner.runs, look(bench, job)[0].attempt) == (1, 1)
    waits = [entry["error"] for entry in logs if entry["event"] == "store away"]
    assert set(waits) == {"Not a directory"}


def test_a_job_that_has_waited_too_long_is_tried_again_and_then_says_why(bench: Bench) -> None:
    job = bench.analysis()
    with store_away(bench, 1000):
        executor(bench, patience=0).run(job)
        row, analysis = look(bench, job)
        assert (row.state, analysis.status) == (JobState.QUEUED, "queued")
        executor(bench, patience=0).run(job)
    error = bench.error(Analysis, job)
    assert error["code"] == "storage_unavailable"
    assert "Not a directory" in error["message"]
    assert "/readyz" in error["hint"]
    assert bench.runner.runs == 0


def test_a_job_that_is_cancelled_meanwhile_is_let_go(bench: Bench) -> None:
    job = bench.analysis()
    with store_away(bench, 1000):
        thread = started(bench, executor(bench), job)
        with Session(bench.engine) as session, session.begin():
            session.execute(queue.withdraw([session.get_one(Job, job).subject_id]))
        thread.join()
    row, analysis = look(bench, job)
    assert (row.state, analysis.error, bench.runner.runs) == (JobState.DONE, None, 0)


def test_a_worker_that_is_to_end_gives_the_job_back(bench: Bench) -> None:
    job, running = bench.analysis(), executor(bench)
    with store_away(bench, 1000):
        thread = started(bench, running, job)
        running.stop()
        thread.join()
    assert look(bench, job)[0].state == JobState.QUEUED
