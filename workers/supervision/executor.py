"""Carrying out one job: claim, supervise the confined child, write what became of it."""

import math
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from uuid import UUID

import structlog
from pydantic import ValidationError
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from service.contract.failures import Failure, FailureCode
from service.contract.security_events import SecurityEvent
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
from workers.supervision.ticker import Ticker

log = structlog.get_logger()

# What is told of a result that no honest child leaves.
_MAX_QUOTED = 500


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
        claimed = self._claim(job_id)
        if claimed is None:
            log.info("job is taken or done", job=str(job_id))
            return
        lease, work = claimed
        with lease.in_log():
            log.info("job started")
            self._conclude(lease, self._carry_out(lease, work))

    def _claim(self, job_id: UUID) -> tuple[Lease, Work] | None:
        with Session(self._engine) as session, session.begin():
            lease = leases.claim(session, job_id, self._name, self._settings.lease_seconds)
            if lease is None:
                return None
            kind = KINDS[lease.kind]
            kind.started(session, lease.subject_id, lease.attempt)
            return lease, kind.load(session, lease.subject_id, self._settings)

    def _carry_out(self, lease: Lease, work: Work) -> _Ending:
        with ExitStack() as opened:
            try:
                inputs = work.open_inputs(self._store, opened)
            except JobError as error:
                return _Ending(Failed(error.failure, "", None), {})
            return _Ending(self._supervise(lease, work, inputs), inputs.digests)

    def _supervise(self, lease: Lease, work: Work, inputs: Inputs) -> Result | Failed | Cancelled:
        # Nothing has read in any of the files yet.
        with Session(self._engine) as session:
            refusal = quarantine.refusal(session, inputs.digests)
        if refusal is not None:
            return Failed(refusal, "", None)
        outcome = self._runner.run(
            work.request(),
            [file.fileno() for file in inputs.files],
            deadline_s=self._settings.job_seconds,
            limits=self._limits(),
            on_tick=Ticker(self._engine, lease, self._settings, self._stopping),
        )
        if not isinstance(outcome, Succeeded):
            return outcome
        try:
            return work.check(outcome, inputs, self._store)
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
        quarantined = None
        outcome = ending.outcome
        with Session(self._engine) as session, session.begin():
            self._write(session, lease, outcome)
            if isinstance(outcome, Failed) and outcome.event is not None:
                incident = Incident(
                    outcome.event, outcome.failure.message, lease, ending.digests, self._name
                )
                quarantined = quarantine.record(session, incident, self._settings.quarantine_after)
        self._report(ending)
        if quarantined is not None:
            log.error("file quarantined", sha256=quarantined)

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
