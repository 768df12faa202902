"""Serves the metrics of the supervisor and of its workers, on a port for Prometheus."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from inference.process.supervisor import Supervisor
from telemetry.metrics import make_folder


class SupervisorMetrics:
    """The supervisor's metrics, collected at each scrape."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def collect(self) -> Iterator[Metric]:
        counts = self._supervisor.counts()
        for slot in range(counts.wanted + 1):
            if slot not in counts.slots:  # the requests that its last worker had in flight are gone
                mark_process_dead(f"slot-{slot}")  # type: ignore[no-untyped-call]  # part of a file name, as in rpc/metrics.py
        yield GaugeMetricFamily("facet_workers", "Workers that should run", counts.wanted)
        yield GaugeMetricFamily("facet_workers_serving", "Workers that are serving", counts.serving)
        failures = "Workers that ended unexpectedly or were killed"
        yield CounterMetricFamily("facet_worker_failures", failures, counts.failures)


@contextmanager
def metrics_server(supervisor: Supervisor, address: str, port: int) -> Iterator[None]:
    """Answer /metrics from a thread, with the counts of all workers that start within this context."""
    folder = make_folder()
    registry = CollectorRegistry()
    registry.register(SupervisorMetrics(supervisor))  # first: it removes the gauges of dead workers
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # registers itself
    try:
        server, thread = start_http_server(port, address, registry)
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
