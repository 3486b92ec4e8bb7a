"""Validating a probe: what the child is asked, and what is written from its answer."""

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, BinaryIO
from uuid import UUID

from obstore.exceptions import BaseError
from sqlalchemy.orm import Session

from service.contract.failures import FailureCode
from service.contract.probe_spec import ProbeSummary
from service.platform import addresses
from service.platform.settings import Settings
from service.platform.storage import BlobStore, sha256_of
from service.tables.probes import Probe, ProbeStatus
from workers.protocol.errors import JobError
from workers.protocol.requests import JobRequest
from workers.runner.outcome import Succeeded
from workers.supervision import subjects
from workers.supervision.stored import open_stored


class ProbeWork:
    """One probe to be read and described."""

    def __init__(self, probe: Probe, settings: Settings) -> None:
        self._probe_id = probe.id
        self._sha256 = probe.sha256
        self._uri = probe.uri
        self._spec = probe.spec
        self._settings = settings
        self._found: dict[str, Any] = {}

    @classmethod
    def load(cls, session: Session, probe_id: UUID, settings: Settings) -> "ProbeWork":
        """Read what there is to do."""
        return cls(session.get_one(Probe, probe_id), settings)

    @property
    def digests(self) -> Mapping[str, str]:
        """SHA-256 of the probe, once it has been fetched."""
        return {} if self._sha256 is None else {"probe": self._sha256}

    def request(self) -> JobRequest:
        """Return what the child is asked to do."""
        return JobRequest(
            kind="validate_probe",
            arguments={"spec": self._spec, "max_bytes": self._settings.max_probe_memory_bytes},
        )

    def open_files(self, store: BlobStore, opened: ExitStack) -> list[BinaryIO]:
        """Open the probe's bytes, fetched first where it was registered by URI."""
        if self._sha256 is None:
            self._fetch(store)
        assert self._sha256 is not None  # noqa: S101 - fetched above
        return [open_stored(store, self._sha256, "the probe", opened)]

    def _fetch(self, store: BlobStore) -> None:
        assert self._uri is not None  # noqa: S101 - a probe has bytes or an address
        with tempfile.TemporaryFile() as file:
            try:
                addresses.fetch(
                    self._uri, self._settings.probe_uris, file, self._settings.max_probe_bytes
                )
            except (BaseError, OSError, ValueError) as error:
                is_ours = isinstance(error, addresses.AddressError)
                why = str(error) if is_ours else f"the store says {type(error).__name__}."
                raise JobError(
                    FailureCode.PROBE_UNREADABLE,
                    f"The probe cannot be fetched from {self._uri}: {why}",
                    hint="Check the address, and that the workers may read it; or upload the file.",
                ) from error
            size = file.tell()
            self._sha256 = sha256_of(file)
            store.put(self._sha256, file)
        self._found = {"sha256": self._sha256, "size_bytes": size}

    def prepare(self, store: BlobStore, outcome: Succeeded) -> None:  # noqa: ARG002 - see Work
        """Validate the summary that the child gave."""
        summary = ProbeSummary.model_validate(outcome.header)
        self._found |= {
            "spec": summary.spec.model_dump(mode="json"),
            "n": summary.n,
            "input_shape": summary.input_shape,
            "inputs": [each.model_dump(mode="json") for each in summary.inputs],
            "classes": summary.classes,
            "class_counts": summary.class_counts,
        }

    def finish(self, session: Session) -> None:
        """Make the probe ready."""
        subjects.change_probe(session, self._probe_id, status=ProbeStatus.READY, **self._found)
