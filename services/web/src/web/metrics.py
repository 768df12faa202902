"""Prometheus metrics over all gunicorn processes, on a port of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app
from prometheus_client.multiprocess import MultiProcessCollector

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

REQUESTS = Counter("facet_http_requests_total", "Requests answered", ["route", "method", "status"])
SECONDS = Histogram(
    "facet_http_request_duration_seconds",
    "From the request's last header to the answer",
    ["route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15),
)
IN_FLIGHT = Gauge("facet_http_requests_in_flight", "Requests being answered", multiprocess_mode="livesum")


def metrics_on_port(port: int, app: WSGIApplication) -> Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]:
    """Answer what comes in on `port` with the metrics, and leave the rest to `app`.

    gunicorn listens on both ports; the edge leads to the other one alone.
    """
    registry: Any = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # sums up the files that all processes keep
    metrics = make_wsgi_app(registry)

    def by_port(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return (metrics if environ["SERVER_PORT"] == str(port) else app)(environ, start_response)

    return by_port
