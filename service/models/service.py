"""What may be done with models, and what happens then."""

from dataclasses import dataclass
from typing import BinaryIO
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession
from starlette.concurrency import run_in_threadpool

from service.contract.archives import ArchiveError, ModelFormat, check_archive
from service.http.problems import NotAModel, NotFound, UnsafeArchive, validated
from service.http.uploads import Upload
from service.models import repository
from service.models.schemas import ModelFields
from service.platform.database import RowLock
from service.platform.storage import BlobStore
from service.tables.analyses import of_model
from service.tables.models import Model
from service.usage import analyses, blobs, inspections


@dataclass(frozen=True)
class Added:
    """What became of an upload.

    Attributes:
        model: The model.
        is_new: The same bytes under the same name, run and step are not.
        notice: What of the upload was not kept, and why; None if all of it was.
    """

    model: Model
    is_new: bool
    notice: str | None = None


async def add(session: AsyncSession, store: BlobStore, upload: Upload) -> Added:
    """Keep an uploaded model.

    Raises:
        InvalidRequest: A field is missing or wrong.
        NotAModel: The bytes are no model.
        UnsafeArchive: The bytes are an archive that no exporter writes.
    """
    fields = validated(ModelFields, dict(upload.fields))
    model_format = await run_in_threadpool(_checked, upload.incoming.file)
    await blobs.lock(session, upload.incoming.sha256)
    # Also where it is known already: an upload mends a stored copy that has been damaged.
    await run_in_threadpool(store.keep, upload.incoming)
    existing = await repository.find_same(session, fields, upload.incoming.sha256)
    if existing is not None:
        return Added(existing, is_new=False, notice=_notice(existing, fields))
    model = Model(
        name=fields.name,
        run=fields.run,
        step=fields.step,
        sha256=upload.incoming.sha256,
        size_bytes=upload.incoming.size_bytes,
        format=model_format,
        metadata_=fields.metadata,
    )
    session.add(model)
    await session.flush()
    return Added(model, is_new=True)


def _notice(existing: Model, fields: ModelFields) -> str | None:
    if "metadata" not in fields.model_fields_set or fields.metadata == existing.metadata_:
        return None
    return (
        "The metadata of this upload was not kept: the same bytes are there already under this "
        "name, run and step, with the metadata shown here, which stays. To have the other one, "
        f"upload under another name, run or step, or DELETE /v1/models/{existing.id} first."
    )


def _checked(file: BinaryIO) -> ModelFormat:
    try:
        return check_archive(file)
    except ArchiveError as error:
        problem = UnsafeArchive if error.code == "unsafe_archive" else NotAModel
        raise problem(str(error)) from None


async def get(session: AsyncSession, model_id: UUID, lock: RowLock = "none") -> Model:
    """Return a model, locked if whoever asks is about to refer to it, or to delete it.

    Raises:
        NotFound: There is none of this id.
    """
    model = await repository.find(session, model_id, lock)
    if model is None:
        raise NotFound(f"There is no model {model_id}. GET /v1/models lists those there are.")
    return model


async def delete(session: AsyncSession, store: BlobStore, model_id: UUID) -> None:
    """Delete a model, and its bytes unless another model has the same.

    Raises:
        NotFound: There is none of this id.
        InUse: An unfinished analysis needs it.
    """
    model = await get(session, model_id, lock="update")
    await analyses.refuse_if_unfinished(session, of_model(model_id))
    await inspections.drop_of_model(session, model_id)
    await blobs.lock(session, model.sha256)
    await repository.mark_deleted(session, model_id)
    await blobs.remove_unless_needed(session, store, model.sha256)
