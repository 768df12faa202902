"""The detector alone: processes that decode and detect in a loop, as a baseline for the path."""

import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any

from inference.__main__ import WORKER_ENVIRONMENT
from inference.imaging.decode import ImageLimits, decode
from inference.mtcnn.detector import DetectOptions
from inference.mtcnn.steps import Steps
from inference.process.worker import load
from inference.settings import Settings
from whole_path.images import SampleImage
from whole_path.load import Sample
from whole_path.stacks import CannotCompare

NAME = "the detector alone"
WARM_UP = 5  # images, after which the time is constant


class Alone:
    """As many processes as workers, which examine one image repeatedly on request."""

    def __init__(self, image: SampleImage, connections: list[Connection]) -> None:
        self._image = image
        self._connections = connections

    def run(self, seconds: float, processes: int) -> Sample:
        """Let some of the processes examine the image for this many seconds."""
        asked = self._connections[:processes]
        for connection in asked:
            connection.send(seconds)
        done = [_heard(connection) for connection in asked]
        latencies = [each for waited, _, _ in done for each in waited]
        cpu = sum(used for _, used, _ in done) / len(latencies)
        rate = sum(len(waited) / took for waited, _, took in done)
        return Sample(rate, {self._image.name: latencies}, {NAME: cpu}, 0.0)


@contextmanager
def detectors_alone(processes: int, image: SampleImage) -> Iterator[Alone]:
    """Start the processes, idle at first."""
    spawn = multiprocessing.get_context("spawn")
    pairs = [spawn.Pipe() for _ in range(processes)]
    started = [spawn.Process(target=_examine, args=(image.jpeg, theirs)) for _, theirs in pairs]
    ours = [ours for ours, _ in pairs]
    try:
        with _as_a_worker():
            for process, (_, theirs) in zip(started, pairs, strict=True):
                process.start()
                theirs.close()  # otherwise its end is not noticed
        for connection in ours:
            _heard(connection)
        yield Alone(image, ours)
    finally:
        for connection in ours:
            with suppress(OSError):
                connection.send(None)
        for process in started:
            if process.pid:
                process.join()


@contextmanager
def _as_a_worker() -> Iterator[None]:
    """Set the environment of a worker for the processes started in the block."""
    before = {name: os.environ.get(name) for name in WORKER_ENVIRONMENT}
    os.environ.update(WORKER_ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value


def _heard(connection: Connection) -> Any:
    try:
        return connection.recv()
    except (EOFError, OSError) as error:
        raise CannotCompare(f"{NAME}: a process has ended, {error!r}") from error


def _examine(data: bytes, connection: Connection) -> None:
    settings = Settings()
    limits = ImageLimits(settings.max_body_bytes, settings.max_pixels, settings.max_side)
    options = DetectOptions(min_face_size=settings.min_face_size)
    detector = load(settings)
    for _ in range(WARM_UP):
        detector.detect(decode(data, limits).pixels, options, Steps())
    connection.send("ready")
    while (seconds := connection.recv()) is not None:
        latencies, cpu, first = [], time.process_time(), time.monotonic()
        while (began := time.monotonic()) < first + seconds:
            detector.detect(decode(data, limits).pixels, options, Steps())
            latencies.append(1000 * (time.monotonic() - began))
        connection.send((latencies, 1000 * (time.process_time() - cpu), time.monotonic() - first))
