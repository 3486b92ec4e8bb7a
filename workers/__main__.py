"""A worker process: Celery, which supervises; a relay; and a warm parent that forks children."""

import os
import socket
import sys
import warnings

import structlog
from celery.exceptions import SecurityWarning
from celery.signals import worker_shutting_down

from service.platform import logs
from service.platform.database import open_engine
from service.platform.migration import refuse_other_schema
from service.platform.settings import Settings
from service.platform.storage import BlobStore
from workers.child.confinement import ConfinementError, check_walls
from workers.protocol.requests import JobLimits, JobRequest
from workers.runner.outcome import Succeeded
from workers.runner.parent_process import RunnerError
from workers.runner.supervisor import Runner
from workers.supervision.celery_app import create_celery
from workers.supervision.executor import Executor
from workers.supervision.registry import Description, Registry
from workers.supervision.relay import Relay
from workers.supervision.tasks import register

log = structlog.get_logger()

_GPU_CHECK_SECONDS = 120.0
"""A driver that was asleep takes its time."""


def main() -> int:
    """Run until a signal ends it; running jobs go back to the queue."""
    settings = Settings()
    logs.configure(as_json=settings.log_json)
    try:
        landlock = check_walls(settings.landlock)
        celery = create_celery(settings)
        refuse_other_schema(settings)
        engine = open_engine(settings)
    except (ValueError, ConfinementError) as error:
        log.error("cannot start", reason=str(error))  # noqa: TRY400 - a setting, not a defect
        return 1
    if not landlock:
        log.warning("models run behind one wall", missing="Landlock", setting="PHISCOPE_LANDLOCK")
    name = f"{socket.gethostname()}:{os.getpid()}"
    runner = Runner(device=settings.device)
    executor = Executor(settings, engine, BlobStore(settings.blob_url), runner, name)
    register(celery, executor)
    relay = Relay(settings, engine, celery)
    registry = Registry(engine, Description(name, settings.device, landlock, settings.worker_slots))

    @worker_shutting_down.connect(weak=False)  # type: ignore[untyped-decorator]  # as Celery is
    def give_back_jobs(**_: object) -> None:
        executor.stop()

    # Root is usual in containers, and what Celery warns of (pickled messages) is not accepted here.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    relay.start()
    try:
        # Before the first claim, whose lease would run while nothing yet works on its job.
        runner.start()
        if settings.device == "cuda":
            check_gpu(runner, settings)
        registry.start()
        # Threads, for a job's own work is done in another process; these only wait for it.
        celery.worker_main(
            [
                "--quiet",
                "worker",
                "--pool=threads",
                f"--concurrency={settings.worker_slots}",
                f"--queues={'gpu,cpu' if settings.device == 'cuda' else 'cpu'}",
                f"--hostname={name}",
                "--without-gossip",
                "--without-mingle",
                "--loglevel=INFO",
            ]
        )
    except RunnerError as error:
        log.error("cannot start", reason=str(error))  # noqa: TRY400 - the installation, not a defect
        return 1
    finally:
        relay.stop()
        registry.stop()
        runner.close()
        engine.dispose()
    return 0


def check_gpu(runner: Runner, settings: Settings) -> None:
    """Make sure, before any job is taken up, that children get a GPU.

    Raises:
        RunnerError: They do not.
    """
    outcome = runner.run(
        JobRequest(kind="describe_gpu", device="cuda"),
        [],
        deadline_s=_GPU_CHECK_SECONDS,
        limits=JobLimits(landlock=settings.landlock),
        on_tick=lambda _: True,
    )
    if isinstance(outcome, Succeeded):
        log.info("models run on a GPU", **outcome.header)
        return
    reason = outcome.log.strip().splitlines()[-1:] or ["its process said nothing"]
    raise RunnerError(
        f"Jobs get no GPU although PHISCOPE_DEVICE is cuda: {reason[0]}. Check that nvidia-smi "
        "lists one here, that torch is a build for CUDA, and that a container was given the GPU; "
        "or set PHISCOPE_DEVICE=cpu."
    )


if __name__ == "__main__":
    sys.exit(main())
