"""Validating a probe: what the child is asked, and what is written from its answer."""

import os
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from obstore.exceptions import BaseError
from pydantic import JsonValue
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from service.contract.failures import Failure, FailureCode
from service.contract.probe_spec import ProbeSummary
from service.contract.progress import Progress
from service.platform import addresses
from service.platform.settings import Settings
from service.platform.storage import BlobStore, sha256_of
from service.tables import queue
from service.tables.analyses import UNFINISHED, Analysis, of_probe
from service.tables.probes import Probe, ProbeStatus
from workers.protocol.errors import JobError
from workers.protocol.requests import JobRequest
from workers.runner.outcome import Succeeded
from workers.supervision.kinds.analysis import AnalysisKind
from workers.supervision.kinds.kind import Inputs
from workers.supervision.kinds.stored import open_stored


@dataclass(frozen=True)
class ProbeResult:
    """What a probe was found to hold.

    Args:
        probe_id: The probe.
        sha256: Digest of the file that was read; of a probe by URI, nobody knew it before.
        size_bytes: Its size.
        summary: What is in it.
    """

    probe_id: UUID
    sha256: str
    size_bytes: int
    summary: ProbeSummary

    def write(self, session: Session) -> None:
        """Make the probe ready, and let relays look for analyses that waited for it."""
        summary = self.summary
        _change(
            session,
            self.probe_id,
            status=ProbeStatus.READY,
            sha256=self.sha256,
            size_bytes=self.size_bytes,
            spec=summary.spec.model_dump(mode="json"),
            n=summary.n,
            input_shape=summary.input_shape,
            inputs=[each.model_dump(mode="json") for each in summary.inputs],
            classes=summary.classes,
            class_counts=summary.class_counts,
        )
        session.execute(queue.wake())


@dataclass(frozen=True)
class ProbeWork:
    """One probe to be read and described.

    Args:
        probe_id: The probe.
        sha256: Digest of its file; None if that is yet to be fetched.
        uri: Where from; empty if it was uploaded.
        spec: How it is read, as far as its owner says.
        settings: The worker's.
    """

    probe_id: UUID
    sha256: str | None
    uri: str
    spec: dict[str, JsonValue]
    settings: Settings

    def open_inputs(self, store: BlobStore, opened: ExitStack) -> Inputs:
        """Open the probe's bytes, fetched first where it was registered by URI."""
        sha256 = self._fetch(store) if self.sha256 is None else self.sha256
        return Inputs([open_stored(store, sha256, "the probe", opened)], {"probe": sha256})

    def _fetch(self, store: BlobStore) -> str:
        """Put the file at the URI into the store, and return its digest."""
        with tempfile.TemporaryFile() as file:
            try:
                addresses.fetch(
                    self.uri, self.settings.probe_uris, file, self.settings.max_probe_bytes
                )
            except (BaseError, OSError, ValueError) as error:
                is_ours = isinstance(error, addresses.AddressError)
                why = str(error) if is_ours else f"the store says {type(error).__name__}."
                raise JobError(
                    FailureCode.PROBE_UNREADABLE,
                    f"The probe cannot be fetched from {self.uri}: {why}",
                    hint="Check the address, and that the workers may read it; or upload the file.",
                ) from error
            sha256 = sha256_of(file)
            store.put(sha256, file)
        return sha256

    def request(self) -> JobRequest:
        """Return what the child is asked to do."""
        return JobRequest(
            kind="validate_probe",
            arguments={"spec": self.spec, "max_bytes": self.settings.max_probe_memory_bytes},
        )

    def check(
        self,
        answer: Succeeded,
        inputs: Inputs,
        store: BlobStore,  # noqa: ARG002 - see Work
    ) -> ProbeResult:
        """Validate the summary that the child gave."""
        (file,) = inputs.files
        return ProbeResult(
            self.probe_id,
            inputs.digests["probe"],
            os.fstat(file.fileno()).st_size,
            ProbeSummary.model_validate(answer.header),
        )


class ProbeKind:
    """Jobs that validate a probe. That one is under way does not show on it."""

    blamed = "probe"

    def load(self, session: Session, subject_id: UUID, settings: Settings) -> ProbeWork:
        """Read what there is to do."""
        probe = session.get_one(Probe, subject_id)
        return ProbeWork(probe.id, probe.sha256, probe.uri or "", probe.spec, settings)

    def started(self, session: Session, subject_id: UUID, attempt: int) -> None:
        """Do nothing: it is being validated from the beginning on."""

    def progressed(self, session: Session, subject_id: UUID, progress: Progress) -> None:
        """Do nothing: it shows no progress."""

    def requeued(self, session: Session, subject_id: UUID) -> None:
        """Do nothing: it is still being validated."""

    def failed(self, session: Session, subject_id: UUID, failure: Failure) -> None:
        """Write down why, and fail the analyses that wait for it, too."""
        _change(
            session,
            subject_id,
            status=ProbeStatus.FAILED,
            error=failure.model_dump(mode="json"),
        )
        waiting = session.scalars(
            select(Analysis.id).where(of_probe(subject_id), Analysis.status.in_(UNFINISHED))
        ).all()
        session.execute(queue.withdraw(waiting))
        for analysis_id in waiting:
            AnalysisKind().failed(session, analysis_id, failure)


def _change(session: Session, probe_id: UUID, **values: Any) -> None:
    session.execute(update(Probe).where(Probe.id == probe_id).values(**values))
