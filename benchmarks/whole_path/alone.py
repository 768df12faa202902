"""The detector alone: processes that decode and detect in a loop without a network, to measure the path against."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection

from inference.image import ImageLimits, decode
from inference.mtcnn.detector import DetectOptions
from inference.mtcnn.steps import Steps
from inference.settings import Settings
from inference.worker import load
from whole_path.load import Sample
from whole_path.pictures import Picture

NAME = "the detector alone"


class Alone:
    """As many processes as there are workers; they examine one picture again and again when told to."""

    def __init__(self, picture: Picture, connections: list[Connection]) -> None:
        self._picture = picture
        self._connections = connections

    def run(self, seconds: float, processes: int) -> Sample:
        """Let so many of them examine the picture for so many seconds."""
        began = time.monotonic()
        asked = self._connections[:processes]
        for connection in asked:
            connection.send(seconds)
        done = [connection.recv() for connection in asked]
        latencies = [each for times, _ in done for each in times]
        cpu = sum(used for _, used in done) / len(latencies)
        rate = len(latencies) / (time.monotonic() - began)
        return Sample(rate, {self._picture.name: latencies}, {NAME: cpu}, 0.0)


@contextmanager
def detectors_alone(processes: int, picture: Picture) -> Iterator[Alone]:
    """Have the processes ready, idle until they are asked."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as the supervisor has it
    spawn = multiprocessing.get_context("spawn")
    pairs = [spawn.Pipe() for _ in range(processes)]
    started = [spawn.Process(target=_examine, args=(picture.jpeg, theirs)) for _, theirs in pairs]
    ours = [ours for ours, _ in pairs]
    try:
        for process, (_, theirs) in zip(started, pairs, strict=True):
            process.start()
            theirs.close()  # or nobody would hear of its end
        for connection in ours:
            connection.recv()
        yield Alone(picture, ours)
    finally:
        for connection in ours:
            with suppress(BrokenPipeError):
                connection.send(None)
        for process in started:
            if process.pid:
                process.join()


def _examine(data: bytes, connection: Connection) -> None:
    settings = Settings()
    limits = ImageLimits(settings.max_body_bytes, settings.max_pixels, settings.max_side)
    options = DetectOptions(min_face_size=settings.min_face_size)
    detector = load(settings)
    connection.send("ready")
    while (seconds := connection.recv()) is not None:
        latencies, cpu, due = [], time.process_time(), time.monotonic() + seconds
        while (began := time.monotonic()) < due:
            detector.detect(decode(data, limits).rgb, options, Steps())
            latencies.append(1000 * (time.monotonic() - began))
        connection.send((latencies, 1000 * (time.process_time() - cpu)))
