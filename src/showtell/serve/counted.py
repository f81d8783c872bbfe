"""/metrics, as Prometheus reads it: what each worker has done and is at, and nothing of talks."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from showtell.serve.rooms import service_of
from showtell.serve.service import Service

counted = APIRouter()
_NOW = {"rows": "answers that are being made", "waiting": "answers that wait"}
_SO_FAR = {
    "answers": "answers that were made",
    "stopped": "answers that nobody listened to any more",
    "failed": "answers that went wrong",
    "words": "pieces of text that were told",
    "photos": "photos that were shared",
    "seconds": "seconds at work",
}


class _Workers(Collector):
    def __init__(self, service: Service) -> None:
        self.service = service

    def collect(self) -> Iterator[Metric]:
        for name, told in _SO_FAR.items():
            so_far = CounterMetricFamily(f"showtell_{name}", told, labels=["model"])
            for model, worker in self.service.workers.items():
                so_far.add_metric([model], float(getattr(worker.counts, name)))
            yield so_far
        for name, told in _NOW.items():
            now = GaugeMetricFamily(f"showtell_{name}", told, labels=["model"])
            for model, worker in self.service.workers.items():
                now.add_metric([model], float(getattr(worker.counts, name)))
            yield now


@counted.get("/metrics", response_model=None)
async def metrics(request: Request) -> Response:
    """Counts of this process since it began."""
    registry = CollectorRegistry()
    registry.register(_Workers(service_of(request)))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
