"""What a job shows while its child works, and when it is given up."""

from typing import Any, cast

import pytest
from sqlalchemy.orm import Session

from service.platform.settings import Settings
from service.tables import queue
from service.tables.analyses import Analysis
from service.tables.jobs import Job, JobState
from tests.workers.supervision.bench import Bench, Ticking
from workers.protocol.progress import Stage
from workers.runner.outcome import Cancelled
from workers.supervision.executor import Executor

pytestmark = pytest.mark.xdist_group("migrations")


def test_each_stage_shows_at_once_on_the_analysis(bench: Bench) -> None:
    job, shown = bench.analysis(), []

    def look() -> None:
        with Session(bench.engine) as session:
            subject = session.get_one(Analysis, session.get_one(Job, job).subject_id)
            shown.append((subject.status, subject.progress))

    bench.runner = Ticking(meanwhile=look, stages=[Stage.LOADING_MODEL, Stage.EVALUATING])
    bench.run(job)
    assert shown[:2] == [
        ("running", {"stage": "loading_model", "done": 0, "total": 9}),
        ("running", {"stage": "evaluating", "done": 1, "total": 9}),
    ]
    assert bench.runner.goes_on == [True, True]


def test_a_job_that_was_withdrawn_is_given_up(bench: Bench) -> None:
    job = bench.analysis()

    def cancel() -> None:
        with Session(bench.engine) as session, session.begin():
            session.execute(queue.withdraw([session.get_one(Job, job).subject_id]))

    bench.runner = Ticking(meanwhile=cancel, stages=[Stage.LOADING_MODEL, Stage.EVALUATING])
    bench.run(job)
    assert bench.runner.goes_on == [True, False]


def test_a_worker_that_stops_gives_its_job_back(bench: Bench) -> None:
    job = bench.analysis()
    runner = Ticking([Cancelled("")], stages=[Stage.LOADING_MODEL, Stage.EVALUATING])
    executor = Executor(Settings(), bench.engine, bench.store, cast("Any", runner), "host:1")
    runner.meanwhile = executor.stop
    executor.run(job)
    assert runner.goes_on == [True, False]
    with Session(bench.engine) as session:
        row = session.get_one(Job, job)
        assert (row.state, row.attempt, row.published_at) == (JobState.QUEUED, 1, None)
        assert session.get_one(Analysis, row.subject_id).status == "queued"
