"""Metrics for Prometheus, read from the database: the same whichever process is asked."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from service.operations import live_workers
from service.platform.database import Session
from service.security import service as security
from service.tables.workers import DEVICES, Worker

router = APIRouter(tags=["health"])

_ENFORCED, _ABSENT = "enforced", "absent"


@dataclass(frozen=True)
class Figures(Collector):
    """What is exposed, at one moment.

    Args:
        security: How much has happened.
        workers: Those that are there.
    """

    security: security.Counts
    workers: Sequence[Worker]

    def collect(self) -> Iterator[Metric]:
        """Yield the figures as the library takes them. All label values are there, also at 0."""
        events = CounterMetricFamily(
            "phiscope_security_events",
            "What an operator has to know of, by event, since the first start.",
            labels=["event"],
        )
        for event, count in self.security.events.items():
            events.add_metric([event], count)
        yield events
        yield GaugeMetricFamily(
            "phiscope_quarantined_files",
            "Files that no job opens.",
            value=self.security.quarantined,
        )
        live = GaugeMetricFamily(
            "phiscope_workers",
            "Workers heard of within the last minute, by what their jobs compute on, and whether "
            "Landlock, the second wall around models, is up.",
            labels=["device", "landlock"],
        )
        counts = Counter(
            (worker.device, _ENFORCED if worker.landlock else _ABSENT) for worker in self.workers
        )
        for device in DEVICES:
            for landlock in (_ENFORCED, _ABSENT):
                live.add_metric([device, landlock], counts[device, landlock])
        yield live


@router.get("/metrics", response_class=PlainTextResponse)
async def get_metrics(request: Request, session: Session) -> Response:
    """Return figures in Prometheus' text format, or OpenMetrics' for whoever accepts that."""
    figures = Figures(await security.count(session), await live_workers.list_live(session))
    encode, media_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(figures), media_type=media_type)
