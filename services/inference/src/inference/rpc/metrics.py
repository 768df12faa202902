"""What a worker counts, for Prometheus.

The counts are kept in files, one set for each slot; metrics_server.py shows their sum. The next worker of a slot goes
on with its files, so that counts neither begin again nor pile up when workers are replaced.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prometheus_client import Counter, Gauge, Histogram, values

from inference.mtcnn.steps import Steps
from inference.rpc.errors import describe

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15)
FACES = (0, 1, 2, 5, 10, 20, 50, 100, 1000)


class WorkerMetrics:
    """The counts of one worker. Without PROMETHEUS_MULTIPROC_DIR they stay in its memory, for nobody."""

    def __init__(self, slot: int) -> None:
        if values.ValueClass is not values.MutexValue:
            values.ValueClass = values.MultiProcessValue(lambda: f"slot-{slot}")  # type: ignore[no-untyped-call]
        elsewhere: Any = {"registry": None}
        self._requests = Counter(
            "facet_inference_requests", "Pictures answered, by OK or the error's code", ["method", "code"], **elsewhere
        )
        self._in_flight = Gauge(
            "facet_inference_in_flight", "Pictures that wait or are examined", multiprocess_mode="livesum", **elsewhere
        )
        self._in_flight.set(0)  # the slot's last worker may have been killed
        self._seconds = Histogram(
            "facet_inference_duration_seconds", "From a picture's arrival to its answer", buckets=SECONDS, **elsewhere
        )
        self._steps = Histogram(
            "facet_inference_step_seconds", "Each step of a detection", ["step"], buckets=SECONDS, **elsewhere
        )
        self._faces = Histogram("facet_inference_faces", "Faces found in a picture", buckets=FACES, **elsewhere)

    @contextmanager
    def request(self, method: str) -> Iterator[None]:
        """Count and time the answer to one picture, by the code of the error that is raised, if one is."""
        began, code = time.monotonic(), "OK"
        self._in_flight.inc()
        try:
            yield
        except asyncio.CancelledError:
            code = "CANCELLED"
            raise
        except Exception as error:
            _, code, _ = describe(error)
            raise
        finally:
            self._in_flight.dec()
            self._requests.labels(method, code).inc()
            self._seconds.observe(time.monotonic() - began)

    def examined(self, faces: int, steps: Steps) -> None:
        """Count the faces of a picture, and the times of the steps that found them."""
        self._faces.observe(faces)
        for name, milliseconds in steps.milliseconds.items():
            self._steps.labels(name).observe(milliseconds / 1000)
