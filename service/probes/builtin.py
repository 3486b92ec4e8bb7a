"""The probe that always exists: scikit-learn's handwritten digits.

1,797 images of 8×8 pixels in 17 grey levels, from the test set of the UCI repository's "Optical
Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak, 1998; CC BY 4.0).
"""

from importlib.resources import as_file, files

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from starlette.concurrency import run_in_threadpool

from service.contract.probe_spec import ProbeSpec
from service.platform.storage import BlobStore, sha256_of
from service.probes import repository
from service.tables import queue
from service.tables.jobs import JobKind
from service.tables.probes import Probe, ProbeStatus

NAME = "builtin:digits"
_SPEC = ProbeSpec.model_validate(
    {
        "format": "npz",
        "input": "x",
        "target": "y",
        "task": "classification",
        "transform": {"dtype": "float32", "scale": 1 / 16},
    }
)
_LOCK = 0x70686973  # an advisory lock of our own: several API processes may start at once


async def ensure(sessions: async_sessionmaker[AsyncSession], store: BlobStore) -> None:
    """Store the built-in probe, and register it unless that has happened; a worker validates it."""
    async with sessions.begin() as session:
        await session.execute(select(func.pg_advisory_xact_lock(_LOCK)))
        with as_file(files("service.probes") / "digits.npz") as path, path.open("rb") as file:
            sha256 = await run_in_threadpool(sha256_of, file)
            size = file.seek(0, 2)
            await run_in_threadpool(store.put, sha256, file)
        if await repository.find_by_name(session, NAME, None) is not None:
            return
        probe = Probe(
            name=NAME,
            version=1,
            sha256=sha256,
            size_bytes=size,
            spec=_SPEC.model_dump(mode="json", exclude_unset=True),
            status=ProbeStatus.VALIDATING,
        )
        session.add(probe)
        await session.flush()
        await session.execute(queue.enqueue(JobKind.PROBE, probe.id))
