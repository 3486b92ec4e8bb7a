"""A worker process: Celery, which supervises; a relay; and a warm parent that forks children."""

import os
import socket
import sys
import warnings

import structlog
from celery.exceptions import SecurityWarning
from celery.signals import worker_shutting_down

from service import logs
from service.database import open_engine
from service.settings import Settings
from service.storage import BlobStore
from workers.celery_app import create_celery
from workers.executor import Executor
from workers.registry import Description, Registry
from workers.relay import Relay
from workers.runner.confinement import ConfinementError, check_walls
from workers.runner.supervisor import Runner
from workers.runner.warm_parent import RunnerError
from workers.tasks import register

log = structlog.get_logger()


def main() -> int:
    """Run until a signal ends it; running jobs go back to the queue."""
    settings = Settings()
    logs.configure(as_json=settings.log_json)
    try:
        landlock = check_walls(settings.landlock)
        celery = create_celery(settings)
        engine = open_engine(settings)
    except (ValueError, ConfinementError) as error:
        log.error("cannot start", reason=str(error))  # noqa: TRY400 - a setting, not a defect
        return 1
    if not landlock:
        log.warning("models run behind one wall", missing="Landlock", setting="PHISCOPE_LANDLOCK")
    name = f"{socket.gethostname()}:{os.getpid()}"
    runner = Runner()
    executor = Executor(settings, engine, BlobStore(settings.blob_url), runner, name)
    register(celery, executor)
    relay = Relay(settings, engine, celery)
    registry = Registry(engine, Description(name, "cpu", landlock, settings.worker_slots))

    @worker_shutting_down.connect(weak=False)  # type: ignore[untyped-decorator]  # as Celery is
    def give_back_jobs(**_: object) -> None:
        executor.stop()

    # Root is usual in containers, and what Celery warns of (pickled messages) is not accepted here.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    relay.start()
    try:
        # Before the first claim, whose lease would run while nothing yet works on its job.
        runner.start()
        registry.start()
        # Threads, for a job's own work is done in another process; these only wait for it.
        celery.worker_main(
            [
                "--quiet",
                "worker",
                "--pool=threads",
                f"--concurrency={settings.worker_slots}",
                "--queues=cpu",
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


if __name__ == "__main__":
    sys.exit(main())
