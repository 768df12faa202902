"""Prometheus metrics of the gateway, on their own port."""

from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app, values
from prometheus_client.multiprocess import MultiProcessCollector

REQUESTS = Counter("facet_http_requests_total", "Requests answered", ["route", "method", "status"])
SECONDS = Histogram(
    "facet_http_request_duration_seconds",
    "Time from the request's last header to the response",
    ["route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15),
)
IN_FLIGHT = Gauge("facet_http_requests_in_flight", "Requests in progress", multiprocess_mode="livesum")


def metrics_on_port(port: int, app: WSGIApplication) -> Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]:
    """Answer requests to `port` with the metrics, and pass all others to `app`.

    gunicorn listens on both ports; the edge routes to the other one only. Under gunicorn the metrics are the sums over
    all processes; a process without gunicorn shows its own.
    """
    registry: Any = REGISTRY
    if values.ValueClass is not values.MutexValue:  # the counts are in files, see telemetry.metrics
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # registers itself
    metrics = make_wsgi_app(registry)

    def by_port(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return (metrics if environ["SERVER_PORT"] == str(port) else app)(environ, start_response)

    return by_port
