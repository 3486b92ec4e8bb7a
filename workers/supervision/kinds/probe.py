"""Validating a probe: what the child is asked, and what is written from its answer."""

import os
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, BinaryIO
from uuid import UUID

from pydantic import JsonValue
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from service.contract.failures import Failure, FailureCode
from service.contract.probe_spec import ProbeSummary
from service.contract.progress import Progress
from service.platform import addresses
from service.platform.settings import Settings
from service.platform.storage import BlobStore
from service.tables import queue
from service.tables.analyses import UNFINISHED, Analysis, of_probe
from service.tables.blobs import lock_of
from service.tables.probes import Probe, ProbeStatus
from workers.protocol.errors import JobError
from workers.protocol.requests import JobRequest
from workers.runner.outcome import Succeeded
from workers.supervision.kinds.analysis import AnalysisKind
from workers.supervision.kinds.kind import Inputs
from workers.supervision.kinds.stored import StoredFile


@dataclass(frozen=True)
class ProbeResult:
    """What a probe was found to hold.

    Args:
        probe_id: The probe.
        sha256: Digest of the file that was read; of a probe by URI, nobody knew it before.
        size_bytes: Its size.
        summary: What is in it.
        file: The file.
        store: Where it is to be from now on.
    """

    probe_id: UUID
    sha256: str
    size_bytes: int
    summary: ProbeSummary
    file: BinaryIO
    store: BlobStore

    def write(self, session: Session) -> None:
        """Make the probe ready, and let relays look for analyses that waited for it."""
        summary = self.summary
        self._keep_file(session)
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
        session.execute(queue.wake(of_probe(self.probe_id)))

    def _keep_file(self, session: Session) -> None:
        """Make sure that the file is stored.

        The digest of a probe by URI has stood in no row until now: somebody who deleted another
        probe or model with the same bytes may have taken them for nobody's.
        """
        session.execute(lock_of(self.sha256))
        if not self.store.holds(self.sha256):
            self.store.put(self.sha256, self.file)


@dataclass(frozen=True)
class ProbeWork:
    """One probe to be read and described.

    Args:
        probe_id: The probe.
        name: Its name.
        sha256: Digest of its file; None if that is yet to be fetched.
        uri: Where from; empty if it was uploaded.
        spec: How it is read, as far as its owner says.
        settings: The worker's.
    """

    probe_id: UUID
    name: str
    sha256: str | None
    uri: str
    spec: dict[str, JsonValue]
    settings: Settings

    def open_inputs(self, store: BlobStore, opened: ExitStack) -> Inputs:
        """Open the probe's bytes, fetched first where it was registered by URI."""
        sha256 = self._fetch(store) if self.sha256 is None else self.sha256
        file = StoredFile("probe", self.name, sha256)
        return Inputs([file.open(store, opened)], {"probe": sha256})

    def _fetch(self, store: BlobStore) -> str:
        """Put the file at the URI into the store, and return its digest."""
        settings = self.settings
        with store.incoming() as incoming:
            try:
                for chunk in addresses.read(
                    self.uri, settings.probe_uris, settings.max_probe_bytes
                ):
                    incoming.write(chunk)
            except addresses.AddressError as error:
                raise JobError(
                    FailureCode.PROBE_UNREADABLE,
                    f"The probe cannot be fetched from {self.uri}: {error}",
                    hint="Check the address, and that the workers may read it; or upload the file.",
                ) from error
            store.keep(incoming)
            return incoming.sha256

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
        store: BlobStore,
    ) -> ProbeResult:
        """Validate the summary that the child gave."""
        (file,) = inputs.files
        return ProbeResult(
            self.probe_id,
            inputs.digests["probe"],
            os.fstat(file.fileno()).st_size,
            ProbeSummary.model_validate(answer.header),
            file,
            store,
        )


class ProbeKind:
    """Jobs that validate a probe. That one is under way does not show on it."""

    blamed = "probe"

    def load(self, session: Session, subject_id: UUID, settings: Settings) -> ProbeWork:
        """Read what there is to do."""
        probe = session.get_one(Probe, subject_id)
        return ProbeWork(probe.id, probe.name, probe.sha256, probe.uri or "", probe.spec, settings)

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
