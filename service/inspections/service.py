"""What may be done with inspections, and what happens then."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from service import __version__
from service.contract.inspection import InputShape, InspectionRequest
from service.contract.probe_spec import ProbeSpec
from service.contract.transform import Transform
from service.http.problems import InvalidRequest, NotFound, NotReady
from service.inspections import repository
from service.inspections.schemas import InspectionQuery, InspectionRead
from service.models import service as models
from service.probes import service as probes
from service.tables import queue
from service.tables.jobs import JobKind
from service.tables.probes import ProbeStatus

_IMAGE_AXES = 3
_CHANNELS = (1, 3, 4)


async def ensure(session: AsyncSession, model_id: UUID, query: InspectionQuery) -> UUID:
    """Return the inspection that answers a query; queue it if nobody has asked so before.

    Raises:
        NotFound: There is no such model or probe.
        NotReady: The probe has not been validated.
        InvalidRequest: Both inputs and a probe are given, or a probe that failed.
    """
    model = await models.get(session, model_id, lock="share")
    request = InspectionRequest(inputs=await _inputs(session, query))
    fingerprint = _digest(
        {"model": str(model.id), "request": request.model_dump(mode="json"), "v": __version__}
    )
    fresh = await repository.add(session, model.id, request, fingerprint)
    fresh = fresh or await repository.reopen(session, fingerprint)
    if fresh is None:
        return await repository.find_by_fingerprint(session, fingerprint)
    # Somebody waits for it, and it takes a second.
    await session.execute(
        queue.enqueue(JobKind.INSPECTION, fresh, priority=queue.PRIORITIES["high"])
    )
    return fresh


async def _inputs(session: AsyncSession, query: InspectionQuery) -> list[InputShape] | None:
    if query.probe is None:
        return [InputShape.parse(text) for text in query.input] or None
    if query.input:
        raise InvalidRequest(
            "input and probe are both given; expected one of them, for both say what the model's "
            "input looks like."
        )
    return await _inputs_of_probe(session, query.probe)


async def _inputs_of_probe(session: AsyncSession, reference: str) -> list[InputShape]:
    probe = await probes.get(session, reference)
    if probe.status == ProbeStatus.VALIDATING:
        raise NotReady(
            f"Probe {reference} is being validated, so its shape is not known yet. Ask again soon."
        )
    if probe.status == ProbeStatus.FAILED or not probe.input_shape:
        raise InvalidRequest(
            f"Probe {reference} holds no inputs of a known shape. Say what one looks like with "
            "input, such as input=3x32x32."
        )
    if probe.inputs is not None:
        spec = ProbeSpec.model_validate(probe.spec)
        if spec.input is None and len(probe.inputs) > 1:
            names = ", ".join(each["name"] for each in probe.inputs)
            raise InvalidRequest(
                f"Probe {reference} leaves open which of its arrays ({names}) a model gets. Say "
                "what the inputs look like with input, such as input=3x32x32."
            )
        return [
            _usual_input(each, given=spec.transform_of(each["name"], position))
            for position, each in enumerate(probe.inputs)
        ]
    # Validated before its inputs were described: it has one, and its dtype is on record if the
    # transform gives it.
    transform = ProbeSpec.model_validate(probe.spec).transform
    dtype = transform.dtype if isinstance(transform, Transform) else None
    return [InputShape(shape=probe.input_shape, dtype=dtype or "float32")]


def _usual_input(stored: Mapping[str, Any], given: Transform | None) -> InputShape:
    """Return what a model takes, as a rule, of an array that is stored like this.

    Floats in single precision, whole numbers as tokens, bytes as images with channels first. Values
    do not matter here; an analysis looks at them, and at the model.
    """
    shape, dtype = list(stored["shape"]), str(stored["dtype"])
    is_image = dtype in {"uint8", "uint16"}
    layout_is_open = given is None or given.layout is None
    if is_image and layout_is_open and len(shape) == _IMAGE_AXES and shape[-1] in _CHANNELS:
        shape = shape if shape[0] in _CHANNELS else [shape[-1], *shape[:-1]]
    if given is None or given.dtype is None:
        is_whole = "int" in dtype and not is_image
        dtype = "bool" if dtype == "bool" else "int64" if is_whole else "float32"
    return InputShape.model_validate({"shape": shape, "dtype": dtype})


def _digest(document: object) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


async def get(session: AsyncSession, inspection_id: UUID) -> InspectionRead:
    """Return an inspection for clients.

    Raises:
        NotFound: There is none of this id; its model was deleted.
    """
    inspection = await repository.find(session, inspection_id)
    if inspection is None:
        raise NotFound("The model was deleted while it was inspected.")
    model = await models.get(session, inspection.model_id)
    columns = {
        column.key: getattr(inspection, column.key) for column in inspection.__table__.columns
    }
    return InspectionRead.model_validate(
        columns | {"format": model.format, "findings": inspection.document}
    )
