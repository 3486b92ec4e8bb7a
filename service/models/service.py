"""What may be done with models, and what happens then."""

from typing import BinaryIO
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession
from starlette.concurrency import run_in_threadpool

from service import blobs
from service.analyses import usage
from service.inspections import usage as inspections
from service.models import repository
from service.models.archives import ArchiveError, ModelFormat, check_archive
from service.models.schemas import ModelFields
from service.models.tables import Model
from service.problems import NotAModel, NotFound, UnsafeArchive, validated
from service.storage import BlobStore
from service.uploads import Upload


async def add(session: AsyncSession, store: BlobStore, upload: Upload) -> tuple[Model, bool]:
    """Keep an uploaded model.

    Returns:
        The model, and whether it is new: the same bytes under the same name, run and step are not.

    Raises:
        InvalidRequest: A field is missing or wrong.
        NotAModel: The bytes are no model.
        UnsafeArchive: The bytes are an archive that no exporter writes.
    """
    fields = validated(ModelFields, dict(upload.fields))
    model_format = await run_in_threadpool(_checked, upload.file)
    await blobs.lock(session, upload.sha256)
    existing = await repository.find_same(session, fields, upload.sha256)
    if existing is not None:
        return existing, False
    await run_in_threadpool(store.put, upload.sha256, upload.file)
    model = Model(
        name=fields.name,
        run=fields.run,
        step=fields.step,
        sha256=upload.sha256,
        size_bytes=upload.size_bytes,
        format=model_format,
        metadata_=fields.metadata,
    )
    session.add(model)
    await session.flush()
    return model, True


def _checked(file: BinaryIO) -> ModelFormat:
    try:
        return check_archive(file)
    except ArchiveError as error:
        problem = UnsafeArchive if error.code == "unsafe_archive" else NotAModel
        raise problem(str(error)) from None


async def get(session: AsyncSession, model_id: UUID) -> Model:
    """Return a model.

    Raises:
        NotFound: There is none of this id.
    """
    model = await repository.find(session, model_id)
    if model is None:
        raise NotFound(f"There is no model {model_id}. GET /v1/models lists those there are.")
    return model


async def delete(session: AsyncSession, store: BlobStore, model_id: UUID) -> None:
    """Delete a model, and its bytes unless another model has the same.

    Raises:
        NotFound: There is none of this id.
        InUse: An unfinished analysis needs it.
    """
    model = await get(session, model_id)
    await usage.refuse_if_unfinished(session, usage.of_model(model_id))
    await inspections.drop_of_model(session, model_id)
    await blobs.lock(session, model.sha256)
    await repository.mark_deleted(session, model_id)
    await blobs.remove_unless_needed(session, store, model.sha256)
