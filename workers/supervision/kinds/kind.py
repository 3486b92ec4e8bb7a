"""What is special about a kind of job, and all of it.

A new kind is a module beside this one, a line in `kinds.catalogue`, an entry of `JobKind` with its
migration, and the child's function in `workers.jobs`.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import BinaryIO, Protocol
from uuid import UUID

from sqlalchemy.orm import Session

from service.contract.failures import Failure
from service.contract.progress import Progress
from service.platform.settings import Settings
from service.platform.storage import BlobStore
from workers.protocol.requests import JobRequest
from workers.runner.outcome import Succeeded


@dataclass(frozen=True)
class Inputs:
    """The files that a child is given.

    Args:
        files: Opened, in the order in which the child expects them; nobody has moved their
            positions.
        digests: SHA-256 of each, by what it is.
    """

    files: Sequence[BinaryIO]
    digests: Mapping[str, str]


class Result(Protocol):
    """What came out of a job: validated, its files stored, and only to be written down."""

    def write(self, session: Session) -> None:
        """Write it, and let the subject succeed, in the transaction that ends the job."""


class Work(Protocol):
    """A job to be done on one subject, read when the job was claimed. It holds no state."""

    def open_inputs(self, store: BlobStore, opened: ExitStack) -> Inputs:
        """Open what the child reads, fetched first where need be.

        Raises:
            JobError: It cannot be had.
        """

    def request(self) -> JobRequest:
        """Return what the child is asked to do."""

    def check(self, answer: Succeeded, inputs: Inputs, store: BlobStore) -> Result:
        """Validate the child's word, and put its files into the store.

        Raises:
            ValidationError: No honest child says so.
            ResultError: No honest child says so.
        """


class Kind(Protocol):
    """One kind of job: its work, and what becomes of its subject.

    What changes the subject is called inside the transaction that changes the job, so both change
    or neither does.
    """

    @property
    def blamed(self) -> str:
        """The file, as `Inputs.digests` names it, that is to blame if the child misbehaves."""

    def load(self, session: Session, subject_id: UUID, settings: Settings) -> Work:
        """Read what there is to do."""

    def started(self, session: Session, subject_id: UUID, attempt: int) -> None:
        """Note that a worker has taken the job up."""

    def progressed(self, session: Session, subject_id: UUID, progress: Progress) -> None:
        """Note how far the job has come."""

    def requeued(self, session: Session, subject_id: UUID) -> None:
        """Note that the worker gave the job back, or vanished: it waits again."""

    def failed(self, session: Session, subject_id: UUID, failure: Failure) -> None:
        """Note that the job cannot succeed."""
