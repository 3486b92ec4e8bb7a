"""Carrying out one job: claim, supervise the confined child, write what became of it."""

import math
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import BinaryIO, Protocol
from uuid import UUID

import structlog
from pydantic import ValidationError
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from service.contract.failures import Failure, FailureCode
from service.contract.progress import Progress as ShownProgress
from service.contract.security_events import SecurityEvent
from service.platform.settings import Settings
from service.platform.storage import BlobStore
from service.tables import queue
from service.tables.jobs import JobKind
from workers.protocol.errors import JobError, ResultError
from workers.protocol.progress import Progress
from workers.protocol.requests import JobLimits, JobRequest
from workers.protocol.text import printable
from workers.runner.outcome import Cancelled, Failed, Outcome, Succeeded
from workers.runner.supervisor import Runner
from workers.supervision import leases, quarantine, subjects
from workers.supervision.kinds.analysis import AnalysisWork
from workers.supervision.kinds.inspection import InspectionWork
from workers.supervision.kinds.probe import ProbeWork
from workers.supervision.leases import Lease
from workers.supervision.quarantine import Incident

log = structlog.get_logger()

# A cancelled job is noticed within this, and the child is gone soon after.
_LOOK_SECONDS = 1.0
# What is told of a result that no honest child leaves.
_MAX_QUOTED = 500


class Work(Protocol):
    """What is special about one kind of job."""

    @property
    def digests(self) -> Mapping[str, str]:
        """SHA-256 of each file that the child is given, by what it is."""

    def request(self) -> JobRequest:
        """Return what the child is asked to do."""

    def open_files(self, store: BlobStore, opened: ExitStack) -> list[BinaryIO]:
        """Open what the child reads; raise JobError if that cannot be had."""

    def prepare(self, store: BlobStore, outcome: Succeeded) -> None:
        """Validate the child's word and put its files into the store, before the transaction.

        Raises:
            ValidationError: No honest child says so.
            ResultError: No honest child says so.
        """

    def finish(self, session: Session) -> None:
        """Write the result, in the transaction that ends the job."""


class Executor:
    """Runs jobs for one worker process; threads may share it.

    Args:
        settings: JobLimits and lease times.
        engine: The database.
        store: Where inputs come from and artifacts go.
        runner: Runs confined children.
        name: How this worker signs its claims.
    """

    def __init__(
        self, settings: Settings, engine: Engine, store: BlobStore, runner: Runner, name: str
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._store = store
        self._runner = runner
        self._name = name
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Give running jobs back to the queue, and take up no more."""
        self._stopping.set()

    def run(self, job_id: UUID) -> None:
        """Carry out a job, if it is still to be had.

        An unexpected error is left to the caller's log: the lease then expires, and the job is
        tried again after that pause, as if this worker had been killed.
        """
        if self._stopping.is_set():
            with Session(self._engine) as session, session.begin():
                session.execute(queue.unpublish(job_id))
            return
        with Session(self._engine) as session, session.begin():
            lease = leases.claim(session, job_id, self._name, self._settings.lease_seconds)
            if lease is None:
                log.info("job is taken or done", job=str(job_id))
                return
            subjects.started(session, lease.kind, lease.subject_id, lease.attempt)
            work = self._load(session, lease)
        log.info("job started", job=str(job_id), kind=lease.kind, attempt=lease.attempt)
        try:
            outcome = self._supervise(lease, work)
            if isinstance(outcome, Succeeded):
                work.prepare(self._store, outcome)
        except JobError as error:
            outcome = Failed(error.failure, "", None)
        except ValidationError as error:
            outcome = _untrusted(_first(error))
        except ResultError as error:
            outcome = _untrusted(str(error))
        self._conclude(lease, work, outcome)

    def _load(self, session: Session, lease: Lease) -> Work:
        if lease.kind == JobKind.ANALYSIS:
            return AnalysisWork.load(session, lease.subject_id, self._settings)
        if lease.kind == JobKind.INSPECTION:
            return InspectionWork.load(session, lease.subject_id, self._settings)
        return ProbeWork.load(session, lease.subject_id, self._settings)

    def _supervise(self, lease: Lease, work: Work) -> Outcome:
        with ExitStack() as opened:
            files = work.open_files(self._store, opened)
            # Only now, for a probe by URI has no digest before it is fetched. Nothing has read in
            # any of the files yet.
            with Session(self._engine) as session:
                refusal = quarantine.refusal(session, work.digests)
            if refusal is not None:
                return Failed(refusal, "", None)
            return self._runner.run(
                work.request(),
                [file.fileno() for file in files],
                deadline_s=self._settings.job_seconds,
                limits=self._limits(),
                on_tick=_Ticker(self._engine, lease, self._settings, self._stopping),
            )

    def _limits(self) -> JobLimits:
        threads = self._settings.threads_per_job
        return JobLimits(
            memory_bytes=self._settings.job_memory_bytes,
            cpu_seconds=math.ceil(self._settings.job_seconds * threads),
            result_bytes=self._settings.job_result_bytes,
            log_bytes=self._settings.job_log_bytes,
            landlock=self._settings.landlock,
        )

    def _conclude(self, lease: Lease, work: Work, outcome: Outcome) -> None:
        """Write the outcome, nothing of it if the lease was lost meanwhile, and a security event.

        That is written in any case: a cancellation at the right moment must not keep it secret.
        """
        quarantined = None
        with Session(self._engine) as session, session.begin():
            if isinstance(outcome, Cancelled) or _can_be_tried_again(
                outcome, lease, self._settings
            ):
                if leases.release(session, lease):
                    subjects.requeued(session, lease.kind, lease.subject_id)
            elif leases.close(session, lease):
                if isinstance(outcome, Failed):
                    subjects.failed(session, lease.kind, lease.subject_id, outcome.failure)
                else:
                    work.finish(session)
            if isinstance(outcome, Failed) and outcome.event is not None:
                incident = Incident(
                    outcome.event, outcome.failure.message, lease, work.digests, self._name
                )
                quarantined = quarantine.record(session, incident, self._settings.quarantine_after)
        self._report(lease, work, outcome)
        if quarantined is not None:
            log.error("file quarantined", sha256=quarantined)

    def _report(self, lease: Lease, work: Work, outcome: Outcome) -> None:
        event = log.bind(job=str(lease.job_id), kind=lease.kind, attempt=lease.attempt)
        if isinstance(outcome, Succeeded):
            event.info("job succeeded")
        elif isinstance(outcome, Cancelled):
            event.info("job given up", stopping=self._stopping.is_set())
        else:
            event.warning(
                "job failed",
                code=outcome.failure.code,
                message=outcome.failure.message,
                output=outcome.log,
            )
            if outcome.event is not None:
                event.error("security event", what=outcome.event, files=dict(work.digests))


class _Ticker:
    """Called by the runner again and again: shows progress, keeps the lease, notices its loss."""

    def __init__(
        self, engine: Engine, lease: Lease, settings: Settings, stopping: threading.Event
    ) -> None:
        self._engine = engine
        self._lease = lease
        self._seconds = settings.lease_seconds
        self._stopping = stopping
        self._renewed_at = time.monotonic()
        self._looked_at = self._renewed_at
        self._shown: Progress | None = None

    def __call__(self, progress: Progress | None) -> bool:
        """Return whether the job is to go on."""
        if self._stopping.is_set():
            return False
        now = time.monotonic()
        if now - self._looked_at < _LOOK_SECONDS and not _is_new_stage(progress, self._shown):
            return True
        self._looked_at = now
        try:
            held = self._renew(progress)
        except OperationalError:
            # The database may come back before the lease has run out.
            return now - self._renewed_at < self._seconds
        self._renewed_at = now
        return held

    def _renew(self, progress: Progress | None) -> bool:
        with Session(self._engine) as session, session.begin():
            if not leases.renew(session, self._lease, self._seconds):
                return False
            if progress is not None and progress != self._shown:
                shown = ShownProgress(
                    stage=progress.stage.label, done=progress.done, total=progress.total
                )
                subjects.progressed(session, self._lease.kind, self._lease.subject_id, shown)
                self._shown = progress
        return True


def _is_new_stage(progress: Progress | None, shown: Progress | None) -> bool:
    return progress is not None and (shown is None or progress.stage != shown.stage)


def _can_be_tried_again(outcome: Outcome, lease: Lease, settings: Settings) -> bool:
    """Whether the job failed for no fault of its own, and has not done so too often."""
    return (
        isinstance(outcome, Failed)
        and outcome.failure.code == FailureCode.LOST
        and lease.attempt < settings.max_attempts
    )


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"


def _untrusted(why: str) -> Failed:
    # It may quote the result, which is the child's word.
    why = printable(why, _MAX_QUOTED)
    failure = Failure(
        code=FailureCode.CRASHED,
        message=f"The job left a result that cannot be trusted: {why}.",
        hint="If the model is not at fault, this is a defect of Phiscope: please report it.",
    )
    return Failed(failure, "", None, SecurityEvent.UNTRUSTED_RESULT)
