"""What may be done with probes, and what happens then."""

from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession
from starlette.concurrency import run_in_threadpool

from service.http.problems import BuiltIn, InvalidRequest, NotFound, validated
from service.http.uploads import Upload
from service.platform import addresses
from service.platform.database import RowLock
from service.platform.settings import Settings
from service.platform.storage import BlobStore
from service.probes import repository
from service.probes.schemas import ProbeByUri, ProbeFields
from service.tables import queue
from service.tables.analyses import of_probe
from service.tables.jobs import JobKind
from service.tables.probes import Probe, ProbeStatus
from service.usage import analyses, blobs

_VERSION_DIGITS = 9


async def add_upload(session: AsyncSession, store: BlobStore, upload: Upload) -> Probe:
    """Keep an uploaded probe and queue its validation.

    Raises:
        InvalidRequest: A field is missing or wrong.
    """
    fields = validated(ProbeFields, dict(upload.fields))
    await blobs.lock(session, upload.incoming.sha256)
    await run_in_threadpool(store.keep, upload.incoming)
    return await _register(
        session,
        Probe(
            name=fields.name,
            sha256=upload.incoming.sha256,
            size_bytes=upload.incoming.size_bytes,
            spec=fields.spec.model_dump(mode="json", exclude_unset=True),
            status=ProbeStatus.VALIDATING,
        ),
    )


async def add_uri(session: AsyncSession, settings: Settings, document: Any) -> Probe:
    """Register a probe that a worker will fetch, and queue its validation.

    Raises:
        InvalidRequest: A field is missing or wrong, or the URI is not one of those allowed.
    """
    fields = validated(ProbeByUri, document)
    try:
        addresses.check_allowed(fields.uri, settings.probe_uris)
    except addresses.AddressError as error:
        raise InvalidRequest(str(error)) from None
    return await _register(
        session,
        Probe(
            name=fields.name,
            uri=fields.uri,
            spec=fields.spec.model_dump(mode="json", exclude_unset=True),
            status=ProbeStatus.VALIDATING,
        ),
    )


async def _register(session: AsyncSession, probe: Probe) -> Probe:
    probe.version = await repository.next_version(session, probe.name)
    session.add(probe)
    await session.flush()
    await session.execute(queue.enqueue(JobKind.PROBE, probe.id))
    return probe


async def get(session: AsyncSession, reference: str, lock: RowLock = "none") -> Probe:
    """Return the probe that an id, a name or `name@version` refers to, locked as that of a model.

    Raises:
        NotFound: There is none.
    """
    probe = await _find(session, reference, lock)
    if probe is None:
        raise NotFound(f"There is no probe {reference!r}. GET /v1/probes lists those there are.")
    return probe


async def _find(session: AsyncSession, reference: str, lock: RowLock) -> Probe | None:
    try:
        return await repository.find(session, UUID(reference), lock)
    except ValueError:
        pass
    if not reference.isprintable():
        return None
    name, at, version = reference.partition("@")
    if not at:
        return await repository.find_by_name(session, name, None, lock)
    # Versions are 32-bit; whatever does not fit one names nothing.
    if not (version.isascii() and version.isdigit() and len(version) <= _VERSION_DIGITS):
        return None
    return await repository.find_by_name(session, name, int(version), lock)


async def delete(session: AsyncSession, store: BlobStore, reference: str) -> None:
    """Delete a probe, and its bytes unless another probe has the same.

    Raises:
        NotFound: There is none.
        InUse: An unfinished analysis needs it.
        BuiltIn: It is part of Phiscope.
    """
    probe = await get(session, reference, lock="update")
    if probe.name.startswith("builtin:"):
        raise BuiltIn(f"{probe.name} is built in and cannot be deleted.")
    await analyses.refuse_if_unfinished(session, of_probe(probe.id))
    await session.execute(queue.withdraw([probe.id]))
    await repository.mark_deleted(session, probe.id)
    if probe.sha256 is not None:
        await blobs.lock(session, probe.sha256)
        await blobs.remove_unless_needed(session, store, probe.sha256)
