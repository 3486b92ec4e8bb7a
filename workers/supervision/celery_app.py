"""Celery, the doorbell: messages carry a job's id, and all state is in PostgreSQL.

The settings below were measured, with kombu 5.7 over Valkey: what a broker redelivers, and when,
must never decide what is run twice. Leases decide that (`workers.supervision.leases`).
"""

import structlog
from celery import Celery
from kombu.transport import redis as transport
from kombu.transport import virtual
from redis.exceptions import RedisError

from service.platform.settings import Settings

log = structlog.get_logger()

RUN_JOB = "phiscope.run_job"

# Redelivery is the lease's business, so the broker's own comes after any job has ended.
_VISIBILITY_SECONDS = 24 * 60 * 60


class _ForgivingQoS(transport.QoS):
    """Bookkeeping of a consumer's unacknowledged messages that survives a broker that hangs.

    Where an acknowledgement fails, kombu goes on counting its message as one that the worker works
    on, and the worker, which takes no more messages than it has slots, never takes another. Here it
    counts no more. The broker delivers it again once `visibility_timeout` has passed, when there is
    nothing left to claim.
    """

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message, or forget it."""
        try:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]  # kombu has none
        except (RedisError, OSError) as error:
            log.warning("message not acknowledged", error=str(error))
            virtual.QoS.ack(self, delivery_tag)  # type: ignore[no-untyped-call]  # kombu has none


transport.Channel.QoS = _ForgivingQoS


def create_celery(settings: Settings) -> Celery:
    """Configure Celery for a broker.

    Raises:
        ValueError: No broker is set.
    """
    if settings.broker_url is None:
        raise ValueError(
            "PHISCOPE_BROKER_URL is not set; expected e.g. redis://localhost:6379/0. "
            "`phiscope up` starts a broker of its own."
        )
    app = Celery("phiscope", broker=settings.broker_url, set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_acks_late=True,
        # A job whose worker process was killed comes back through its lease, once, and not through
        # the broker, which would deliver a poison message for ever.
        task_reject_on_worker_lost=False,
        worker_prefetch_multiplier=1,
        broker_connection_retry_on_startup=True,
        # Without end: Celery's own limit of a hundred would end the worker after an hour.
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": _VISIBILITY_SECONDS,
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 1,
            "queue_order_strategy": "priority",
            # A broker that went away, or hangs, is noticed instead of waited for. Consumers wait
            # for a second at a time.
            "socket_keepalive": True,
            "socket_connect_timeout": 5,
            "socket_timeout": 5,
        },
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
    )
    return app
