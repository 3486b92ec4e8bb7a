"""An executor with a database and a store, jobs for it, and runners of rehearsed children."""

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from service.contract.failures import Failure, FailureCode
from service.contract.security_events import SecurityEvent
from service.platform.database import Base, new_id
from service.platform.settings import Settings
from service.platform.storage import BlobStore
from service.tables.analyses import Analysis
from service.tables.inspections import Inspection
from service.tables.jobs import Job, JobKind
from service.tables.models import Model
from service.tables.probes import Probe, ProbeStatus
from service.tables.security import Event
from workers.protocol.progress import Progress, Stage
from workers.runner.outcome import Failed, Outcome
from workers.runner.supervisor import OnTick
from workers.supervision.executor import Executor

FAILURE = Failure(code=FailureCode.CRASHED, message="It crashed.")
CRASH = Failed(FAILURE, "", None, SecurityEvent.CRASHED)
ORDINARY = Failed(Failure(code=FailureCode.OUT_OF_MEMORY, message="Too large."), "", None)
UNWALLED = Failed(
    Failure(code=FailureCode.LOST, message="No walls."), "", None, SecurityEvent.NOT_CONFINED
)
CONTENTS = {sha256(content).hexdigest(): content for content in (b"model", b"probe", b"eval", b"2")}
MODEL, PROBE, EVAL, OTHER = CONTENTS
SUMMARY: dict[str, Any] = {
    "n": 2,
    "input_shape": [3],
    "inputs": [{"name": "x", "shape": [3], "dtype": "float32"}],
    "task": None,
    "classes": None,
    "class_counts": None,
    "spec": {"input": "x"},
}


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


@dataclass
class Ticking(Rehearsed):
    """A runner that tells of progress, as often as it is told to."""

    stages: list[Stage] = field(default_factory=list)
    goes_on: list[bool] = field(default_factory=list)

    def run(self, *given: object, **named: object) -> Outcome:
        on_tick = cast("OnTick", named["on_tick"])
        for done, stage in enumerate(self.stages):
            self.goes_on.append(on_tick(Progress(stage, done, 9)))
            self.meanwhile()
        return super().run(*given, **named)
