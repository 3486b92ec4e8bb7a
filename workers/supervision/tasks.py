"""The one Celery task: it carries a job's id to the executor."""

from uuid import UUID

from celery import Celery

from workers.supervision.celery_app import RUN_JOB
from workers.supervision.executor import Executor


def register(celery: Celery, executor: Executor) -> None:
    """Let this process take up jobs."""

    @celery.task(name=RUN_JOB)  # type: ignore[untyped-decorator]  # Celery has no types
    def run_job(job_id: str) -> None:
        executor.run(UUID(job_id))
