"""What becomes of a job: what its owner is told, what an operator is, and what is on record."""

import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import cast

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs
from support import ENDED_WELL

from service.contract.security_events import SecurityEvent
from service.platform.settings import Settings
from service.tables.analyses import Analysis
from service.tables.inspections import Inspection
from service.tables.jobs import Job, JobKind, JobState
from service.tables.probes import Probe
from service.tables.security import Quarantine
from tests.workers.supervision.bench import (
    CONTENTS,
    CRASH,
    EVAL,
    FAILURE,
    MODEL,
    ORDINARY,
    OTHER,
    PROBE,
    SUMMARY,
    UNWALLED,
    Bench,
    Rehearsed,
)
from workers.runner.outcome import Cancelled, Failed, Outcome, Succeeded
from workers.runner.supervisor import Runner
from workers.supervision.executor import Executor, _first, _untrusted

pytestmark = pytest.mark.xdist_group("migrations")


@pytest.mark.parametrize("key", ["x" * 100_000, "\x1b[2Jx", "\udcff"])
def test_what_a_forged_result_says_is_quoted_in_short_and_escaped(key: str) -> None:
    class Strict(BaseModel):
        model_config = ConfigDict(extra="forbid")

    with pytest.raises(ValidationError) as refused:
        Strict.model_validate({key: 1})
    outcome = _untrusted(_first(refused.value))
    assert outcome.event == SecurityEvent.UNTRUSTED_RESULT
    assert outcome.failure.message.isprintable()
    assert len(outcome.failure.message) < 1000


def test_a_crash_is_on_record_with_its_job_and_files(bench: Bench) -> None:
    job = bench.analysis()
    bench.run(job)
    assert bench.error(Analysis, job)["code"] == "crashed"
    (event,) = bench.events()
    assert (event.event, event.sha256, event.job_id) == ("crashed", MODEL, job)
    assert event.digests == {"model": MODEL, "probe": PROBE, "eval_probe": EVAL}
    assert (event.kind, event.attempt, event.worker) == ("analysis", 1, "host:1")
    assert event.message == "It crashed."


@pytest.mark.parametrize("what", SecurityEvent)
def test_the_log_names_the_files_of_a_security_event(bench: Bench, what: SecurityEvent) -> None:
    bench.runner.outcomes = [Failed(FAILURE, "", None, what)]
    job = bench.analysis()
    with capture_logs([merge_contextvars]) as logs:
        bench.run(job)
    (entry,) = [entry for entry in logs if entry["event"] == "security event"]
    assert (entry["log_level"], entry["what"]) == ("error", what)
    assert entry["files"] == {"model": MODEL, "probe": PROBE, "eval_probe": EVAL}
    assert (entry["job"], entry["kind"], entry["attempt"]) == (str(job), "analysis", 1)


def test_an_ordinary_failure_is_no_security_event(bench: Bench) -> None:
    bench.runner.outcomes = [ORDINARY]
    job = bench.analysis()
    with capture_logs([merge_contextvars]) as logs:
        bench.run(job)
    assert [entry["event"] for entry in logs] == ["job started", "job failed"]
    assert {entry["job"] for entry in logs} == {str(job)}
    assert bench.events() == []


def test_with_the_third_crash_no_job_opens_the_model_any_more(bench: Bench) -> None:
    model = bench.model()
    # All of them are in the queue before the quarantine falls.
    jobs = [bench.inspection(model) for _ in range(5)]
    with capture_logs([merge_contextvars]) as logs:
        for job in jobs:
            bench.run(job)
    codes = [bench.error(Inspection, job)["code"] for job in jobs]
    assert codes == ["crashed"] * 3 + ["quarantined"] * 2
    assert bench.runner.runs == 3
    assert [event.event for event in bench.events()] == ["crashed"] * 3 + ["quarantined"]
    (line,) = [entry for entry in logs if entry["event"] == "file quarantined"]
    assert (line["log_level"], line["sha256"]) == ("error", MODEL)
    assert (line["job"], line["kind"], line["attempt"]) == (str(jobs[2]), "inspection", 1)
    # Being refused is no strike, and another file has none.
    bench.run(bench.inspection(bench.model(OTHER)))
    assert bench.runner.runs == 4


def test_the_setting_says_how_many(bench: Bench) -> None:
    jobs = [bench.inspection(bench.model()) for _ in range(2)]
    for job in jobs:
        bench.run(job, quarantine_after=1)
    codes = [bench.error(Inspection, job)["code"] for job in jobs]
    assert codes == ["crashed", "quarantined"]


@pytest.mark.parametrize("digest", [MODEL, PROBE, EVAL])
def test_an_analysis_is_refused_for_any_of_its_files(bench: Bench, digest: str) -> None:
    job = bench.analysis()
    bench.add(Quarantine(sha256=digest, strikes=3, reason="3 × crashed"))
    bench.run(job)
    assert bench.error(Analysis, job)["code"] == "quarantined"
    assert bench.runner.runs == 0
    assert bench.events() == []


def test_a_probe_is_blamed_for_its_own_validation(bench: Bench) -> None:
    jobs = [bench.job(JobKind.PROBE, bench.probe()) for _ in range(4)]
    for job in jobs:
        bench.run(job)
    codes = [bench.error(Probe, job)["code"] for job in jobs]
    assert codes == ["crashed"] * 3 + ["quarantined"]
    assert {event.sha256 for event in bench.events()} == {PROBE}


def test_a_probe_by_address_is_known_by_its_digest_once_it_is_fetched(
    bench: Bench, tmp_path: Path
) -> None:
    (tmp_path / "probe.npz").write_bytes(b"from afar")
    uri = f"{tmp_path.as_uri()}/probe.npz"
    jobs = [bench.job(JobKind.PROBE, bench.probe(None, uri)) for _ in range(4)]
    for job in jobs:
        bench.run(job, probe_uris=[tmp_path.as_uri()])
    assert bench.error(Probe, jobs[-1])["code"] == "quarantined"
    assert bench.runner.runs == 3


def test_a_probe_by_address_is_ready_with_the_digest_and_size_of_what_was_read(
    bench: Bench, tmp_path: Path
) -> None:
    (tmp_path / "probe.npz").write_bytes(b"from afar")
    probe = bench.probe(None, f"{tmp_path.as_uri()}/probe.npz")
    bench.runner.outcomes = [Succeeded(SUMMARY, {}, "", ENDED_WELL)]
    bench.run(bench.job(JobKind.PROBE, probe), probe_uris=[tmp_path.as_uri()])
    with Session(bench.engine) as session:
        row = session.get_one(Probe, probe)
        assert (row.status, row.sha256) == ("ready", sha256(b"from afar").hexdigest())
        assert (row.size_bytes, row.n, row.input_shape) == (9, 2, [3])


def test_the_file_of_a_probe_by_address_is_stored_again_if_it_was_taken_for_nobodys(
    bench: Bench, tmp_path: Path
) -> None:
    (tmp_path / "probe.npz").write_bytes(b"from afar")
    digest = sha256(b"from afar").hexdigest()
    probe = bench.probe(None, f"{tmp_path.as_uri()}/probe.npz")
    bench.runner.outcomes = [Succeeded(SUMMARY, {}, "", ENDED_WELL)]
    # While the child reads, another owner of the same bytes is deleted.
    bench.runner.meanwhile = lambda: bench.store.delete(digest)
    bench.run(bench.job(JobKind.PROBE, probe), probe_uris=[tmp_path.as_uri()])
    with bench.store.open_whole(digest) as file:
        assert file.read() == b"from afar"


def test_a_worker_without_walls_is_on_record_at_each_attempt(bench: Bench) -> None:
    bench.runner.outcomes = [UNWALLED]
    job = bench.inspection(bench.model())
    for _ in range(3):
        bench.run(job)
    assert bench.error(Inspection, job)["code"] == "lost"
    rows = [(event.event, event.sha256, event.attempt) for event in bench.events()]
    assert rows == [("not_confined", None, attempt) for attempt in (1, 2, 3)]


def test_a_cancellation_at_the_right_moment_hides_nothing(bench: Bench) -> None:
    job = bench.analysis()

    def cancel() -> None:
        with Session(bench.engine) as session, session.begin():
            session.get_one(Job, job).state = JobState.DONE

    bench.runner.meanwhile = cancel
    bench.run(job)
    assert [event.event for event in bench.events()] == ["crashed"]
    with Session(bench.engine) as session:
        subject = session.get_one(Analysis, session.get_one(Job, job).subject_id)
        # Nothing else is written by whoever lost the job.
        assert subject.error is None


def test_a_job_that_was_stopped_leaves_no_event(bench: Bench) -> None:
    bench.runner.outcomes = [Cancelled("")]
    bench.run(bench.analysis())
    assert bench.events() == []


def test_a_result_that_no_honest_child_leaves_is_a_strike(bench: Bench) -> None:
    bench.runner.outcomes = [Succeeded({"x": 1}, {}, "", ENDED_WELL)]
    job = bench.inspection(bench.model())
    bench.run(job)
    assert [event.event for event in bench.events()] == ["untrusted_result"]
    assert bench.error(Inspection, job)["code"] == "crashed"


def stored(bench: Bench, digest: str) -> Path:
    """Where the store keeps a blob."""
    return bench.directory / "sha256" / digest[:2] / digest


@pytest.mark.parametrize("harm", ["a flipped bit", "cut off", "gone"])
@pytest.mark.parametrize(
    ("digest", "called"), [(MODEL, "the model"), (PROBE, "the probe"), (EVAL, "the eval probe")]
)
def test_a_stored_file_that_has_changed_is_not_analysed(
    bench: Bench, digest: str, called: str, harm: str
) -> None:
    job = bench.analysis()
    path, content = stored(bench, digest), bytearray(CONTENTS[digest])
    content[1] ^= 4
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(content if harm == "a flipped bit" else content[:1])
    bench.run(job)
    error = bench.error(Analysis, job)
    assert error["code"] == "stored_file_damaged"
    assert f"stored copy of {called} " in error["message"]
    assert "Neither the file nor its owner is at fault" in error["message"]
    assert "Upload the same file once more" in error["hint"]
    name = error["detail"]["name"]
    assert error["detail"] == {"name": name, "sha256": digest}
    assert f"({name}, SHA-256 {digest})" in error["hint"]
    assert bench.runner.runs == 0
    assert bench.events() == []
    # The same bytes once more mend it.
    bench.store.put(digest, io.BytesIO(CONTENTS[digest]))
    bench.run(bench.analysis())
    assert bench.runner.runs == 1


def test_a_child_is_given_files_at_their_start(bench: Bench) -> None:
    """That their digests are computed does not move them."""
    places: list[int] = []

    class Looking(Rehearsed):
        def run(self, *given: object, **_: object) -> Outcome:
            places.extend(os.lseek(fd, 0, os.SEEK_CUR) for fd in cast("list[int]", given[1]))
            return CRASH

    bench.runner = Looking()
    bench.run(bench.analysis())
    assert places == [0, 0, 0]


@contextmanager
def away(engine: Engine, times: int) -> Iterator[list[int]]:
    """While entered, the next so many transactions fail as if the database had gone."""
    left = [times]

    def fail(_connection: object) -> None:
        if left[0]:
            left[0] -= 1
            raise OperationalError("BEGIN", {}, OSError("the server closed the connection"))

    event.listen(engine, "begin", fail)
    try:
        yield left
    finally:
        event.remove(engine, "begin", fail)


def test_a_database_that_is_away_before_the_claim_costs_no_message(bench: Bench) -> None:
    job = bench.inspection(bench.model())
    with away(bench.engine, 2) as left:
        bench.run(job)
    assert (left, bench.runner.runs) == ([0], 1)
    assert bench.error(Inspection, job)["code"] == "crashed"


def test_a_database_that_is_away_at_the_end_costs_no_result(bench: Bench) -> None:
    job = bench.inspection(bench.model())
    with away(bench.engine, 0) as left:
        bench.runner.meanwhile = lambda: left.__setitem__(0, 2)
        bench.run(job)
    assert (left, bench.runner.runs) == ([0], 1)
    assert bench.error(Inspection, job)["code"] == "crashed"
    assert len(bench.events()) == 1


def test_a_worker_that_is_to_end_does_not_wait_for_its_database(bench: Bench) -> None:
    job = bench.inspection(bench.model())
    executor = Executor(Settings(), bench.engine, bench.store, cast("Runner", bench.runner), "h:1")
    threading.Timer(0.3, executor.stop).start()
    with away(bench.engine, 1_000_000), pytest.raises(OperationalError):
        executor.run(job)
    with Session(bench.engine) as session:
        assert session.get_one(Job, job).state == JobState.QUEUED
