"""What may be done with analyses, and what happens then."""

import hashlib
import json
from typing import NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from service import __version__
from service.analyses import repository
from service.analyses.schemas import AnalysisCreate, AnalysisRead, ArtifactRead, Links
from service.contract.options import Options
from service.contract.progress import Progress
from service.http.problems import IdempotencyConflict, InvalidRequest, NotFound, NotReady
from service.models import service as models
from service.operations import live_workers
from service.platform.database import new_id
from service.probes import service as probes
from service.tables import queue
from service.tables.analyses import Analysis, Artifact, Status
from service.tables.jobs import JobKind
from service.tables.probes import Probe, ProbeStatus


async def create(
    session: AsyncSession, request: AnalysisCreate, idempotency_key: str | None
) -> Analysis:
    """Queue an analysis, or find the one that this request has made or would make again.

    Raises:
        NotFound: There is no such model or probe.
        InvalidRequest: A probe failed its validation, or has no classes to balance, or no worker
            has the device.
        IdempotencyConflict: The key came before with another request.
    """
    analysis_id = new_id()
    if idempotency_key is not None:
        earlier = await _reserve_key(session, idempotency_key, request, analysis_id)
        if earlier is not None:
            return earlier
    question = await _understand(session, request)
    same = await repository.find_succeeded(session, question.fingerprint)
    if same is not None:
        if idempotency_key is not None:
            await repository.point_key(session, idempotency_key, same.id)
        return same
    await _refuse_missing_device(session, question.options)
    return await _queue(session, analysis_id, question, request.priority)


async def _reserve_key(
    session: AsyncSession, key: str, request: AnalysisCreate, analysis_id: UUID
) -> Analysis | None:
    """Claim an idempotency key, or return the analysis that its earlier use has made."""
    digest = _digest(request.model_dump(mode="json"))
    earlier = await repository.reserve_key(session, key, digest, analysis_id)
    if earlier is None:
        return None
    if earlier.request_sha256 != digest:
        raise IdempotencyConflict(
            f"Idempotency-Key {key!r} came before with a different request. "
            "Use a new key for a new request."
        )
    return await get(session, earlier.analysis_id)


class _Question(NamedTuple):
    """What an analysis is to answer; names stand for what they mean today."""

    model_id: UUID
    probe_id: UUID
    eval_probe_id: UUID | None
    options: Options

    @property
    def fingerprint(self) -> str:
        """Digest of everything that decides the report's figures."""
        return _digest(
            {
                "model": str(self.model_id),
                "probe": str(self.probe_id),
                "options": self.options.model_dump(mode="json"),
                "version": __version__,
            }
        )


async def _understand(session: AsyncSession, request: AnalysisCreate) -> _Question:
    """Find what a request names, keep it from being deleted, and refuse what cannot succeed."""
    model = await models.get(session, request.model, lock="share")
    probe = await probes.get(session, request.probe, lock="share")
    _refuse_failed(probe)
    _refuse_unlabelled(probe, request.options)
    options = request.options
    if options.eval_probe is None:
        return _Question(model.id, probe.id, None, options)
    eval_probe = await probes.get(session, options.eval_probe, lock="share")
    _refuse_failed(eval_probe)
    # A name may mean another version tomorrow.
    options = options.model_copy(update={"eval_probe": str(eval_probe.id)})
    return _Question(model.id, probe.id, eval_probe.id, options)


async def _queue(
    session: AsyncSession, analysis_id: UUID, question: _Question, priority: str
) -> Analysis:
    analysis = Analysis(
        id=analysis_id,
        model_id=question.model_id,
        probe_id=question.probe_id,
        eval_probe_id=question.eval_probe_id,
        options=question.options.model_dump(mode="json"),
        priority=priority,
        status=Status.QUEUED,
        progress=Progress(stage="queued", done=0, total=0).model_dump(),
        fingerprint=question.fingerprint,
    )
    session.add(analysis)
    await session.flush()
    await session.refresh(analysis)
    await session.execute(
        queue.enqueue(
            JobKind.ANALYSIS,
            analysis.id,
            queue="gpu" if question.options.device == "cuda" else "cpu",
            priority=queue.PRIORITIES[priority],
        )
    )
    return analysis


def _refuse_failed(probe: Probe) -> None:
    if probe.status == ProbeStatus.FAILED:
        message = (probe.error or {}).get("message", "")
        raise InvalidRequest(
            f"Probe {probe.name}@{probe.version} cannot be used, its validation failed: {message}"
        )


def _refuse_unlabelled(probe: Probe, options: Options) -> None:
    """Say at once what the worker would, where the probe alone tells that there are no classes.

    If the probe has not been read yet, only the worker can tell; if its targets have no task yet,
    such as floats, only the worker with the model in view.
    """
    if options.class_weighting == "none" or probe.status != ProbeStatus.READY:
        return
    unlabelled = probe.spec.get("target") is None
    if unlabelled or probe.spec.get("task") == "regression":
        raise InvalidRequest(
            f'"class_weighting": "{options.class_weighting}" needs class labels, and probe '
            f"{probe.name}@{probe.version} has {'none' if unlabelled else 'values instead'}. "
            'Use one that has, or leave it at "none".'
        )


async def _refuse_missing_device(session: AsyncSession, options: Options) -> None:
    if options.device == "cuda" and not await live_workers.has_device(session, "cuda"):
        raise InvalidRequest(
            'The options ask for "device": "cuda", and no worker with a GPU is there: expected one '
            'that was started with PHISCOPE_DEVICE=cuda. Use "auto", or start one.'
        )


def _digest(document: object) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


async def get(session: AsyncSession, analysis_id: UUID) -> Analysis:
    """Return an analysis.

    Raises:
        NotFound: There is none of this id.
    """
    return existing(analysis_id, await repository.find(session, analysis_id))


def existing(analysis_id: UUID, analysis: Analysis | None) -> Analysis:
    """Return an analysis that was looked for.

    Raises:
        NotFound: There is none of this id.
    """
    if analysis is None:
        raise NotFound(
            f"There is no analysis {analysis_id}. GET /v1/analyses lists those there are."
        )
    return analysis


async def cancel(session: AsyncSession, analysis_id: UUID) -> Analysis:
    """Stop an analysis; one that has ended already stays as it is.

    Raises:
        NotFound: There is none of this id.
    """
    await get(session, analysis_id)
    # The job before the analysis, in the order in which workers lock them.
    await session.execute(queue.withdraw([analysis_id]))
    await repository.cancel(session, analysis_id)
    return await get(session, analysis_id)


async def get_report(session: AsyncSession, analysis_id: UUID) -> tuple[str, str]:
    """Return a report's text and its digest.

    Raises:
        NotFound: There is no such analysis.
        NotReady: It has not succeeded.
    """
    analysis = await get(session, analysis_id)
    report = await repository.find_report(session, analysis_id)
    if report is None:
        raise NotReady(_why_no_report(analysis))
    return report


def _why_no_report(analysis: Analysis) -> str:
    if analysis.status == Status.FAILED:
        message = (analysis.error or {}).get("message", "")
        return f"The analysis failed, so it has no report: {message}"
    if analysis.status == Status.CANCELLED:
        return "The analysis was cancelled, so it has no report. Start another one."
    return (
        f"The analysis is {analysis.status}. "
        f"GET /v1/analyses/{analysis.id}?wait=30 answers as soon as it has ended."
    )


async def get_artifact(session: AsyncSession, analysis_id: UUID, name: str) -> Artifact:
    """Return one artifact.

    Raises:
        NotFound: There is no such analysis or artifact.
    """
    await get(session, analysis_id)
    artifacts = await repository.list_artifacts(session, analysis_id)
    for artifact in artifacts:
        if artifact.name == name:
            return artifact
    there = ", ".join(artifact.name for artifact in artifacts) or "none, for it has not succeeded"
    raise NotFound(f"The analysis has no artifact {name!r}; it has {there}.")


def describe(analysis: Analysis) -> AnalysisRead:
    """Render an analysis for clients."""
    address = f"/v1/analyses/{analysis.id}"
    links = Links(
        self=address,
        events=f"{address}/events",
        report=f"{address}/report",
        artifacts=f"{address}/artifacts",
        charts=f"{address}/charts",
        model=f"/v1/models/{analysis.model_id}",
        probe=f"/v1/probes/{analysis.probe_id}",
    )
    columns = {column.key: getattr(analysis, column.key) for column in Analysis.__table__.columns}
    return AnalysisRead.model_validate({**columns, "links": links})


def describe_artifact(artifact: Artifact) -> ArtifactRead:
    """Render an artifact for clients."""
    return ArtifactRead(
        name=artifact.name,
        media_type=artifact.media_type,
        size_bytes=artifact.size_bytes,
        sha256=artifact.sha256,
        href=f"/v1/analyses/{artifact.analysis_id}/artifacts/{artifact.name}",
    )
