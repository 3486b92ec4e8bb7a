"""What a job's end, or its return to the queue, means for what it works on.

Called inside the transaction that changed the job, so both change or neither does.
"""

from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from service.contract.failures import Failure
from service.contract.progress import Progress
from service.platform.notifications import ANALYSES_CHANNEL
from service.tables import queue
from service.tables.analyses import UNFINISHED, Analysis, Status, of_probe
from service.tables.inspections import Inspection, InspectionStatus
from service.tables.jobs import JobKind
from service.tables.probes import Probe, ProbeStatus


def started(session: Session, kind: JobKind, subject_id: UUID, attempt: int) -> None:
    """A worker has taken it up."""
    if kind == JobKind.ANALYSIS:
        change_analysis(
            session,
            subject_id,
            status=Status.RUNNING,
            attempts=attempt,
            started_at=func.coalesce(Analysis.started_at, func.now()),
            progress=Progress(stage="starting", done=0, total=0).model_dump(),
        )
    elif kind == JobKind.INSPECTION:
        change_inspection(session, subject_id, status=InspectionStatus.RUNNING)


def progressed(session: Session, kind: JobKind, subject_id: UUID, progress: Progress) -> None:
    """It has come so far."""
    if kind == JobKind.ANALYSIS:
        change_analysis(session, subject_id, progress=progress.model_dump())


def requeued(session: Session, kind: JobKind, subject_id: UUID) -> None:
    """Its worker gave it back, or vanished: it waits again."""
    if kind == JobKind.ANALYSIS:
        progress = Progress(stage="queued", done=0, total=0).model_dump()
        change_analysis(session, subject_id, status=Status.QUEUED, progress=progress)
    elif kind == JobKind.INSPECTION:
        change_inspection(session, subject_id, status=InspectionStatus.QUEUED)


def failed(session: Session, kind: JobKind, subject_id: UUID, failure: Failure) -> None:
    """It cannot succeed. A failed probe takes the analyses that wait for it along."""
    error = failure.model_dump(mode="json")
    if kind == JobKind.ANALYSIS:
        change_analysis(
            session, subject_id, status=Status.FAILED, error=error, finished_at=func.now()
        )
        return
    if kind == JobKind.INSPECTION:
        change_inspection(
            session, subject_id, status=InspectionStatus.FAILED, error=error, finished_at=func.now()
        )
        return
    session.execute(
        update(Probe).where(Probe.id == subject_id).values(status=ProbeStatus.FAILED, error=error)
    )
    waiting = session.scalars(
        select(Analysis.id).where(of_probe(subject_id), Analysis.status.in_(UNFINISHED))
    ).all()
    session.execute(queue.withdraw(waiting))
    for analysis_id in waiting:
        failed(session, JobKind.ANALYSIS, analysis_id, failure)


def change_analysis(session: Session, analysis_id: UUID, **values: Any) -> None:
    """Change an unfinished analysis, and wake whoever waits for it."""
    session.execute(
        update(Analysis)
        .where(Analysis.id == analysis_id, Analysis.status.in_(UNFINISHED))
        .values(**values)
    )
    session.execute(select(func.pg_notify(ANALYSES_CHANNEL, str(analysis_id))))


def change_inspection(session: Session, inspection_id: UUID, **values: Any) -> None:
    """Change an inspection, and wake whoever waits for it."""
    session.execute(update(Inspection).where(Inspection.id == inspection_id).values(**values))
    session.execute(select(func.pg_notify(ANALYSES_CHANNEL, str(inspection_id))))


def change_probe(session: Session, probe_id: UUID, **values: Any) -> None:
    """Change a probe, and let relays look for analyses that waited for it."""
    session.execute(update(Probe).where(Probe.id == probe_id).values(**values))
    session.execute(queue.wake())
