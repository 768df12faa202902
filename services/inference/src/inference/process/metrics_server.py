"""Shows the metrics of the service, the workers' and the supervisor's own, on a port that only Prometheus needs."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from inference.process.supervisor import Supervisor


class SupervisorMetrics:
    """The supervisor's own figures, asked for at each scrape, before the workers'."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def collect(self) -> Iterator[Metric]:
        """Give them, as prometheus_client asks its collectors to."""
        census = self._supervisor.census()
        for slot in range(census.wanted + 1):
            if slot not in census.slots:  # what was in flight there when it died, nobody has any more
                mark_process_dead(f"slot-{slot}")  # type: ignore[no-untyped-call]  # it goes into a file's name, as given there
        yield GaugeMetricFamily("facet_workers", "Workers that there should be", census.wanted)
        yield GaugeMetricFamily("facet_workers_serving", "Workers that serve", census.serving)
        yield CounterMetricFamily("facet_worker_failures", "Workers that ended unasked or were killed", census.failures)


@contextmanager
def metrics_server(supervisor: Supervisor, address: str, port: int) -> Iterator[None]:
    """Answer on /metrics, from a thread; workers that are started meanwhile keep their counts in a folder in TMPDIR."""
    folder = tempfile.mkdtemp(prefix="facet-metrics-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    registry = CollectorRegistry()
    registry.register(SupervisorMetrics(supervisor))
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # it registers itself
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
