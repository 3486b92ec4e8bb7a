"""Carrying out one job: claim, supervise the confined child, write what became of it."""

import math
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

import structlog
from pydantic import ValidationError
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from service.contract.failures import Failure, FailureCode
from service.contract.security_events import SecurityEvent
from service.platform.database import AWAY
from service.platform.settings import Settings
from service.platform.storage import BlobStore
from service.tables import queue
from workers.protocol.errors import JobError, ResultError
from workers.protocol.requests import JobLimits
from workers.protocol.text import printable
from workers.runner.outcome import Cancelled, Failed, Succeeded
from workers.runner.supervisor import Runner
from workers.supervision import leases, quarantine
from workers.supervision.kinds.catalogue import KINDS
from workers.supervision.kinds.kind import Inputs, Result, Work
from workers.supervision.leases import Lease
from workers.supervision.quarantine import Incident
from workers.supervision.store_access import StoreAccess, StoreNotUsedError
from workers.supervision.ticker import Ticker

log = structlog.get_logger()

# What is told of a result that no honest child leaves.
_MAX_QUOTED = 500
# A database that is away is asked again after this long, and longer each time.
_FIRST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 5.0
# As long as it takes an operator to make room on a disk.
_STORE_PATIENCE_SECONDS = 600.0

# What a job that failed for no fault of its own is tried again after.
_RETRIED = {FailureCode.LOST, FailureCode.STORAGE_UNAVAILABLE}

Changed = TypeVar("Changed")


@dataclass(frozen=True)
class _Ending:
    """How a job ended, and SHA-256 of each file that its child was given, by what it is."""

    outcome: Result | Failed | Cancelled
    digests: Mapping[str, str]


class Executor:
    """Runs jobs for one worker process; threads may share it.

    Args:
        settings: Limits and lease times.
        engine: The database.
        store: Where inputs come from and artifacts go.
        runner: Runs confined children.
        name: How this worker signs its claims.
        store_patience_seconds: How long a job waits for a store that is full or out of reach.
    """

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        store: BlobStore,
        runner: Runner,
        name: str,
        *,
        store_patience_seconds: float = _STORE_PATIENCE_SECONDS,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._store = store
        self._runner = runner
        self._name = name
        self._store_patience_seconds = store_patience_seconds
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
                session.execute(queue.unpublish([job_id]))
            return
        claimed = self._insist(lambda session: self._claim(session, job_id))
        if claimed is None:
            log.info("job is taken or done", job=str(job_id))
            return
        lease, work = claimed
        # The files stay open until the ending is written, which may have to store one again.
        with lease.in_log(), ExitStack() as opened:
            log.info("job started")
            self._conclude(lease, self._carry_out(lease, work, opened))

    def _insist(self, change: Callable[[Session], Changed]) -> Changed:
        """Do something in a transaction as soon as the database lets it be done.

        A worker can do nothing else meanwhile; and what it gave up is lost: the message, before a
        claim, and an hour's work after it. Leases see to it that nothing is done twice.

        Raises:
            SQLAlchemyError: The database is still away, and this worker is to end.
        """
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                with Session(self._engine) as session, session.begin():
                    return change(session)
            except AWAY as error:
                if self._stopping.is_set():
                    raise
                log.warning("database away", error=str(error).partition("\n")[0], wait=pause)
            self._stopping.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _claim(self, session: Session, job_id: UUID) -> tuple[Lease, Work] | None:
        lease = leases.claim(session, job_id, self._name, self._settings.lease_seconds)
        if lease is None:
            return None
        kind = KINDS[lease.kind]
        kind.started(session, lease.subject_id, lease.attempt)
        return lease, kind.load(session, lease.subject_id, self._settings)

    def _carry_out(self, lease: Lease, work: Work, opened: ExitStack) -> _Ending:
        ticker = Ticker(self._engine, lease, self._settings, self._stopping)
        access = StoreAccess(ticker, self._stopping, self._store_patience_seconds)
        try:
            inputs = access.insist(lambda: work.open_inputs(self._store, opened))
        except JobError as error:
            return _Ending(Failed(error.failure, "", None), {})
        except StoreNotUsedError as error:
            return _Ending(error.outcome, {})
        return _Ending(self._supervise(work, inputs, ticker, access), inputs.digests)

    def _supervise(
        self, work: Work, inputs: Inputs, ticker: Ticker, access: StoreAccess
    ) -> Result | Failed | Cancelled:
        # Nothing has read in any of the files yet.
        refusal = self._insist(lambda session: quarantine.refusal(session, inputs.digests))
        if refusal is not None:
            return Failed(refusal, "", None)
        outcome = self._runner.run(
            work.request(),
            [file.fileno() for file in inputs.files],
            deadline_s=self._settings.job_seconds,
            limits=self._limits(),
            on_tick=ticker,
        )
        if not isinstance(outcome, Succeeded):
            return outcome
        try:
            return access.insist(lambda: work.check(outcome, inputs, self._store))
        except StoreNotUsedError as error:
            return error.outcome
        except ValidationError as error:
            return _untrusted(_first(error))
        except ResultError as error:
            return _untrusted(str(error))

    def _limits(self) -> JobLimits:
        threads = self._settings.threads_per_job
        return JobLimits(
            memory_bytes=self._settings.job_memory_bytes,
            cpu_seconds=math.ceil(self._settings.job_seconds * threads),
            result_bytes=self._settings.job_result_bytes,
            log_bytes=self._settings.job_log_bytes,
            landlock=self._settings.landlock,
        )

    def _conclude(self, lease: Lease, ending: _Ending) -> None:
        """Write the ending, nothing of it if the lease was lost meanwhile, and a security event.

        That is written in any case: a cancellation at the right moment must not keep it secret.
        """
        quarantined = self._insist(lambda session: self._write_ending(session, lease, ending))
        self._report(ending)
        if quarantined is not None:
            log.error("file quarantined", sha256=quarantined)

    def _write_ending(self, session: Session, lease: Lease, ending: _Ending) -> str | None:
        """Write the ending; returns the digest of a file that is quarantined from now on."""
        outcome = ending.outcome
        self._write(session, lease, outcome)
        if not isinstance(outcome, Failed) or outcome.event is None:
            return None
        incident = Incident(
            outcome.event, outcome.failure.message, lease, ending.digests, self._name
        )
        return quarantine.record(session, incident, self._settings.quarantine_after)

    def _write(self, session: Session, lease: Lease, outcome: Result | Failed | Cancelled) -> None:
        kind = KINDS[lease.kind]
        if isinstance(outcome, Cancelled) or _can_be_tried_again(outcome, lease, self._settings):
            if leases.release(session, lease):
                kind.requeued(session, lease.subject_id)
        elif leases.close(session, lease):
            if isinstance(outcome, Failed):
                kind.failed(session, lease.subject_id, outcome.failure)
            else:
                outcome.write(session)

    def _report(self, ending: _Ending) -> None:
        outcome = ending.outcome
        if isinstance(outcome, Cancelled):
            log.info("job given up", stopping=self._stopping.is_set())
        elif isinstance(outcome, Failed):
            log.warning(
                "job failed",
                code=outcome.failure.code,
                message=outcome.failure.message,
                output=outcome.log,
            )
            if outcome.event is not None:
                log.error("security event", what=outcome.event, files=dict(ending.digests))
        else:
            log.info("job succeeded")


def _can_be_tried_again(outcome: Result | Failed, lease: Lease, settings: Settings) -> bool:
    """Return whether the job failed for no fault of its own, and has not done so too often."""
    return (
        isinstance(outcome, Failed)
        and outcome.failure.code in _RETRIED
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
