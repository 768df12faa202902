"""Prometheus metrics of a worker.

The counts are in files, one set per slot; metrics_server.py shows their sums. A worker continues the files of its
predecessor in the slot, so a replacement neither resets the counts nor adds files.
"""

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
    """The counts of one worker. Without a folder for the files (see telemetry.metrics) they stay in its memory."""

    def __init__(self, slot: int) -> None:
        if values.ValueClass is not values.MutexValue:
            values.ValueClass = values.MultiProcessValue(lambda: f"slot-{slot}")  # type: ignore[no-untyped-call]
        in_files: Any = {"registry": None}  # the supervisor shows the files
        self._requests = Counter(
            "facet_inference_requests", "Images answered, by the error's code or OK", ["method", "code"], **in_files
        )
        self._in_flight = Gauge(
            "facet_inference_in_flight", "Images waiting or being examined", multiprocess_mode="livesum", **in_files
        )
        self._in_flight.set(0)  # the predecessor may have been killed
        self._seconds = Histogram(
            "facet_inference_duration_seconds",
            "Time from the arrival of an image to its answer",
            buckets=SECONDS,
            **in_files,
        )
        self._steps = Histogram(
            "facet_inference_step_seconds",
            "Time of each step of an examination",
            ["step"],
            buckets=SECONDS,
            **in_files,
        )
        self._faces = Histogram("facet_inference_faces", "Faces found in an image", buckets=FACES, **in_files)

    @contextmanager
    def request(self, method: str) -> Iterator[None]:
        """Count and time the answer to one image, by the code of the error that it raises, if any."""
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
        """Count the faces of an image and the times of the steps."""
        self._faces.observe(faces)
        for name, milliseconds in steps.milliseconds.items():
            self._steps.labels(name).observe(milliseconds / 1000)
