"""Growth of processes: their resident memory over time, and their descriptors and threads."""

from __future__ import annotations

import math
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import psutil

from tests.stack.running import RunningStack

EVERY_SECONDS = 2.0
BLOCKS = 12  # averaged: neighboring samples are correlated, which would make the error too small
STUDENT_T = 3.169  # 99.5 % one-sided, 10 degrees of freedom: BLOCKS points minus two parameters
MIB = 2**20


@dataclass(frozen=True)
class Slope:
    """The slope of a line through samples, in MiB per hour, with its error at 99 % confidence."""

    mib_per_hour: float
    error: float

    @property
    def least(self) -> float:
        """The lower bound of the growth."""
        return self.mib_per_hour - self.error


def slope(samples: Sequence[tuple[float, float]]) -> Slope:
    """Fit a line through the means of blocks of (seconds, bytes)."""
    hours, mib = zip(*_means(samples), strict=True)
    fitted = statistics.linear_regression(hours, mib)
    residuals = [y - fitted.intercept - fitted.slope * x for x, y in zip(hours, mib, strict=True)]
    spread = sum((x - statistics.fmean(hours)) ** 2 for x in hours)
    error = math.sqrt(sum(residual**2 for residual in residuals) / (BLOCKS - 2) / spread)
    return Slope(fitted.slope, STUDENT_T * error)


def _means(samples: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the mean of each block: hours, MiB."""
    size = len(samples) // BLOCKS
    blocks = [samples[index * size : (index + 1) * size] for index in range(BLOCKS)]
    return [
        (statistics.fmean(seconds for seconds, _ in block) / 3600, statistics.fmean(held for _, held in block) / MIB)
        for block in blocks
    ]


def long_lived_processes(stack: RunningStack) -> dict[str, psutil.Process]:
    """Return by name the processes that live as long as the stack, and the oldest worker."""
    gunicorn = stack.gateways()[0]
    named = {
        "supervisor": stack.supervisors()[0],
        "oldest worker": min(stack.workers(), key=lambda process: process.create_time()),
        "gunicorn": gunicorn,
        "envoy": next(each for each in stack.processes() if each.name() == "envoy"),
    }
    return named | {f"gateway {number}": each for number, each in enumerate(gunicorn.children(), 1)}


def descriptors_and_threads(processes: dict[str, psutil.Process]) -> dict[str, tuple[int, int]]:
    """Count the descriptors and threads of each process."""
    return {name: (process.num_fds(), process.num_threads()) for name, process in processes.items()}


@dataclass
class MemoryGrowth:
    """Samples the resident memory of processes during its block."""

    processes: dict[str, psutil.Process]
    samples: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def __enter__(self) -> MemoryGrowth:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def grown(self) -> dict[str, float]:
        """Return the growth of each process in MiB, from the mean of the first block to that of the last."""
        means = {name: _means(samples) for name, samples in self.samples.items()}
        return {name: each[-1][1] - each[0][1] for name, each in means.items()}

    def slopes(self) -> dict[str, Slope]:
        return {name: slope(samples) for name, samples in self.samples.items()}

    def _sample(self) -> None:
        began = time.monotonic()
        while not self._stop.wait(EVERY_SECONDS):
            for name, process in self.processes.items():
                sample = (time.monotonic() - began, float(process.memory_info().rss))
                self.samples.setdefault(name, []).append(sample)
