"""What becomes of a job: what its owner is told, what an operator is, and what is on record."""

import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy import Engine, delete, select
from sqlalchemy.orm import Session
from structlog.testing import capture_logs
from support import ENDED_WELL

from service.analyses.tables import Analysis
from service.database import Base, new_id
from service.failures import Failure, FailureCode
from service.inspections.tables import Inspection
from service.jobs.tables import Job, JobKind, JobState
from service.models.tables import Model
from service.probes.tables import Probe, ProbeStatus
from service.security.events import SecurityEvent
from service.security.tables import Event, Quarantine
from service.settings import Settings
from service.storage import BlobStore
from workers.executor import Executor, _first, _untrusted
from workers.leases import Lease
from workers.runner.outcome import Cancelled, Failed, Outcome, Succeeded

pytestmark = pytest.mark.xdist_group("migrations")

FAILURE = Failure(code=FailureCode.CRASHED, message="It crashed.")
CRASH = Failed(FAILURE, "", None, SecurityEvent.CRASHED)
ORDINARY = Failed(Failure(code=FailureCode.OUT_OF_MEMORY, message="Too large."), "", None)
UNWALLED = Failed(
    Failure(code=FailureCode.LOST, message="No walls."), "", None, SecurityEvent.NOT_CONFINED
)
DIGESTS = {"model": "a" * 64, "probe": "b" * 64}
CONTENTS = {sha256(content).hexdigest(): content for content in (b"model", b"probe", b"eval", b"2")}
MODEL, PROBE, EVAL, OTHER = CONTENTS


class Digested:
    """Work, as far as it is reported."""

    digests = DIGESTS


def reported(outcome: Failed) -> list[Any]:
    nothing = cast("Any", None)
    executor = Executor(Settings(), nothing, nothing, nothing, "worker")
    lease = Lease(job_id=uuid4(), kind=JobKind.ANALYSIS, subject_id=uuid4(), attempt=1)
    with capture_logs() as logs:
        executor._report(lease, cast("Any", Digested()), outcome)
    return [entry for entry in logs if entry["event"] == "security event"]


@pytest.mark.parametrize("what", SecurityEvent)
def test_a_security_event_names_the_files(what: SecurityEvent) -> None:
    (entry,) = reported(Failed(FAILURE, "", None, what))
    assert entry["log_level"] == "error"
    assert entry["what"] == what
    assert entry["files"] == DIGESTS
    assert entry["kind"] == "analysis"


def test_an_ordinary_failure_is_no_security_event() -> None:
    assert reported(Failed(FAILURE, "", None)) == []


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


@dataclass
class Rehearsed:
    """A runner whose children end as it is told; the last way is that of all others."""

    outcomes: list[Outcome] = field(default_factory=lambda: [CRASH])
    runs: int = 0
    meanwhile: Callable[[], None] = lambda: None

    def run(self, *_: object, **__: object) -> Outcome:
        outcome = self.outcomes[min(self.runs, len(self.outcomes) - 1)]
        self.runs += 1
        self.meanwhile()
        return outcome


class Bench:
    """An executor with a database and a store, and jobs for it."""

    def __init__(self, engine: Engine, directory: Path) -> None:
        self.engine = engine
        self.directory = directory
        self.store = BlobStore(directory.as_uri())
        self.runner = Rehearsed()

    def run(self, job: UUID, **settings: Any) -> None:
        runner = cast("Any", self.runner)
        Executor(Settings(**settings), self.engine, self.store, runner, "host:1").run(job)

    def add(self, *rows: Base) -> None:
        with Session(self.engine) as session, session.begin():
            for row in rows:
                session.add(row)
                session.flush()

    def model(self, digest: str = MODEL) -> UUID:
        self.store.put(digest, io.BytesIO(CONTENTS[digest]))
        row_id = new_id()
        self.add(
            Model(
                id=row_id,
                name=uuid4().hex,
                sha256=digest,
                size_bytes=5,
                format="torchscript",
                metadata_={},
            )
        )
        return row_id

    def probe(self, digest: str | None = PROBE, uri: str | None = None) -> UUID:
        if digest is not None:
            self.store.put(digest, io.BytesIO(CONTENTS[digest]))
        row_id = new_id()
        self.add(
            Probe(
                id=row_id,
                name=uuid4().hex,
                version=1,
                sha256=digest,
                uri=uri,
                spec={},
                status=ProbeStatus.READY,
            )
        )
        return row_id

    def job(self, kind: JobKind, subject_id: UUID) -> UUID:
        job_id = new_id()
        self.add(Job(id=job_id, kind=kind, subject_id=subject_id, queue="cpu", priority=3))
        return job_id

    def inspection(self, model_id: UUID) -> UUID:
        row_id = new_id()
        self.add(
            Inspection(
                id=row_id, model_id=model_id, request={"inputs": None}, fingerprint=uuid4().hex
            )
        )
        return self.job(JobKind.INSPECTION, row_id)

    def analysis(self) -> UUID:
        row_id, model, probe, held_out = new_id(), self.model(), self.probe(), self.probe(EVAL)
        self.add(
            Analysis(
                id=row_id,
                model_id=model,
                probe_id=probe,
                eval_probe_id=held_out,
                options={},
                priority="normal",
                progress={},
                fingerprint=uuid4().hex,
            )
        )
        return self.job(JobKind.ANALYSIS, row_id)

    def events(self) -> list[Event]:
        with Session(self.engine, expire_on_commit=False) as session:
            return list(session.scalars(select(Event).order_by(Event.id)))

    def error(self, table: type[Analysis | Inspection | Probe], job: UUID) -> dict[str, Any]:
        with Session(self.engine) as session:
            row = session.get_one(table, session.get_one(Job, job).subject_id)
            assert row.error is not None
            return row.error


@pytest.fixture
def engine(shared_engine: Engine) -> Engine:
    return shared_engine


@pytest.fixture
def bench(engine: Engine, tmp_path: Path) -> Bench:
    with Session(engine) as session, session.begin():
        session.execute(delete(Event))
        session.execute(delete(Quarantine))
    return Bench(engine, tmp_path)


def test_a_crash_is_on_record_with_its_job_and_files(bench: Bench) -> None:
    job = bench.analysis()
    bench.run(job)
    assert bench.error(Analysis, job)["code"] == "crashed"
    (event,) = bench.events()
    assert (event.event, event.sha256, event.job_id) == ("crashed", MODEL, job)
    assert event.digests == {"model": MODEL, "probe": PROBE, "eval_probe": EVAL}
    assert (event.kind, event.attempt, event.worker) == ("analysis", 1, "host:1")
    assert event.message == "It crashed."


def test_an_ordinary_failure_leaves_no_event(bench: Bench) -> None:
    bench.runner.outcomes = [ORDINARY]
    bench.run(bench.analysis())
    assert bench.events() == []


def test_with_the_third_crash_no_job_opens_the_model_any_more(bench: Bench) -> None:
    model = bench.model()
    # All of them are in the queue before the quarantine falls.
    jobs = [bench.inspection(model) for _ in range(5)]
    with capture_logs() as logs:
        for job in jobs:
            bench.run(job)
    codes = [bench.error(Inspection, job)["code"] for job in jobs]
    assert codes == ["crashed"] * 3 + ["quarantined"] * 2
    assert bench.runner.runs == 3
    assert [event.event for event in bench.events()] == ["crashed"] * 3 + ["quarantined"]
    (line,) = [entry for entry in logs if entry["event"] == "file quarantined"]
    assert (line["log_level"], line["sha256"]) == ("error", MODEL)
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
    assert error["detail"] == {"sha256": digest}
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
