"""Putting security events on record, and keeping files that misbehave from running again.

An exploit of native code rarely works at once; whoever tries one leaves crashes behind. So each
event that a file is to blame for is a strike, and a file with too many is not opened any more.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.contract.failures import Failure, FailureCode
from service.contract.security_events import STRIKES, SecurityEvent
from service.tables.security import Event, Quarantine, lock_of
from workers.supervision.kinds.catalogue import KINDS
from workers.supervision.leases import Lease


@dataclass(frozen=True)
class Incident:
    """A security event of a job.

    Args:
        event: What happened.
        message: As the job's owner is told.
        lease: The job.
        digests: SHA-256 of each of its files, by what it is.
        worker: As the worker signs its claims.
    """

    event: SecurityEvent
    message: str
    lease: Lease
    digests: Mapping[str, str]
    worker: str

    @property
    def blamed(self) -> str | None:
        """SHA-256 of the file to blame; None if it is not known, or the worker is at fault."""
        if self.event not in STRIKES:
            return None
        return self.digests.get(KINDS[self.lease.kind].blamed)


def record(session: Session, incident: Incident, limit: int) -> str | None:
    """Write down an event, and quarantine the file that has too many.

    Args:
        session: In the transaction that concludes the job.
        incident: What happened.
        limit: Strikes with which a file is quarantined; 0 for never.

    Returns:
        SHA-256 of the file that is quarantined by this; None if none is.
    """
    blamed = incident.blamed
    if blamed is not None:
        # Another worker may be about to conclude on the same file. Whoever comes second waits here,
        # and then sees the first one's strike.
        session.execute(lock_of(blamed))
    _write(session, incident, incident.event, incident.message)
    if blamed is None or limit == 0:
        return None
    strikes = _strikes(session, blamed)
    if strikes.total() < limit:
        return None
    reason = ", ".join(f"{count} × {event}" for event, count in sorted(strikes.items()))
    if not _quarantine(session, blamed, strikes.total(), reason):
        return None
    _write(session, incident, SecurityEvent.QUARANTINED, f"Quarantined: {reason}.")
    return blamed


def refusal(session: Session, digests: Mapping[str, str]) -> Failure | None:
    """Say why a job cannot be done if one of its files is quarantined.

    Args:
        session: Only read from.
        digests: SHA-256 of each of the job's files, by what it is.
    """
    quarantine = session.scalar(
        select(Quarantine).where(Quarantine.sha256.in_(list(digests.values()))).limit(1)
    )
    if quarantine is None:
        return None
    sha256 = quarantine.sha256
    file = next(name for name, digest in digests.items() if digest == sha256)
    since = quarantine.created_at.astimezone(UTC).isoformat(timespec="seconds")
    return Failure(
        code=FailureCode.QUARANTINED,
        message=f"The file of the {file.replace('_', ' ')}, SHA-256 {sha256}, is quarantined since "
        f"{since}, because jobs that opened it crashed or misbehaved: {quarantine.reason}. No job "
        "opens it any more.",
        hint="The operator of this Phiscope can look into it (GET /v1/security-events?sha256=…) "
        f"and release it, with `phiscope quarantine release {sha256}` or DELETE "
        f"/v1/quarantines/{sha256}. Then ask again.",
        detail={
            "file": file,
            "sha256": sha256,
            "since": since,
            "strikes": quarantine.strikes,
        },
    )


def _write(session: Session, incident: Incident, event: SecurityEvent, message: str) -> None:
    session.add(
        Event(
            event=event,
            sha256=incident.blamed,
            digests=dict(incident.digests),
            job_id=incident.lease.job_id,
            kind=incident.lease.kind,
            subject_id=incident.lease.subject_id,
            attempt=incident.lease.attempt,
            worker=incident.worker,
            message=message,
        )
    )
    session.flush()


def _strikes(session: Session, sha256: str) -> Counter[str]:
    """Count a file's strikes since its last release, by event."""
    released = (
        select(func.max(Event.created_at))
        .where(Event.sha256 == sha256, Event.event == SecurityEvent.RELEASED)
        .scalar_subquery()
    )
    rows = session.execute(
        select(Event.event, func.count())
        .where(
            Event.sha256 == sha256,
            Event.event.in_(STRIKES),
            Event.created_at > func.coalesce(released, func.to_timestamp(0)),
        )
        .group_by(Event.event)
    )
    return Counter(dict(rows.all()))


def _quarantine(session: Session, sha256: str, strikes: int, reason: str) -> bool:
    """Quarantine a file; False if it was already, and then only its strikes are brought up to date.

    A job that had opened it before goes on, and may add to them.
    """
    known = session.get(Quarantine, sha256)
    if known is not None:
        known.strikes, known.reason = strikes, reason
        return False
    session.add(Quarantine(sha256=sha256, strikes=strikes, reason=reason))
    return True
