"""Takes the raw numbers of a run together: medians over the rounds with their range, percentiles over all requests."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import Any

from whole_path.alone import NAME

SIZE, CALLERS = "640x480", 8  # what the targets speak of
Samples = list[dict[str, Any]]


@dataclass(frozen=True)
class Figure:
    """A median over the rounds, the least and the most."""

    middle: float
    least: float
    most: float

    @classmethod
    def of(cls, values: list[float]) -> Figure:
        """Take rounds together."""
        return cls(median(values), min(values), max(values))

    def __str__(self) -> str:
        """Write it with its range."""
        return f"{self.middle:.1f} ({self.least:.1f} to {self.most:.1f})"


def rate(samples: Samples) -> Figure:
    """Give requests a second."""
    return Figure.of([sample["rate"] for sample in samples])


def cpu(samples: Samples) -> Figure:
    """Give milliseconds of CPU time for a request, all processes of the stack."""
    return Figure.of([sum(sample["cpu"].values()) for sample in samples])


def tiers(samples: Samples) -> dict[str, float]:
    """Give milliseconds of CPU time for a request in each tier."""
    return {tier: median(sample["cpu"][tier] for sample in samples) for tier in samples[0]["cpu"]}


def per_cpu_second(samples: Samples) -> Figure:
    """Give requests for a second of CPU time."""
    return Figure.of([1000 / sum(sample["cpu"].values()) for sample in samples])


def latencies(samples: Samples, name: str = "") -> list[float]:
    """Put together the milliseconds of all rounds, of one kind of picture or of all."""
    found = [
        each for sample in samples for kind, times in sample["latencies"].items() if name in kind for each in times
    ]
    return sorted(found)


def percentile(ordered: list[float], percent: float) -> float:
    """Give the smallest value that so many per cent do not exceed."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else math.nan


def cells(run: dict[str, Any], stack: str, size: str, callers: int) -> Samples:
    """Pick the rounds of one cell of the comparison."""
    wanted = {"stack": stack, "size": size, "callers": callers}
    return [cell for cell in run["side_by_side"]["cells"] if wanted.items() <= cell.items()]


@dataclass(frozen=True)
class Target:
    """A row of the targets. `most` says that the figure should be at most, not at least, `must` and `aim`."""

    what: str
    must: float
    aim: float
    got: float
    unit: str
    most: bool = False

    def reaches(self, bound: float) -> bool:
        """Whether the figure is as good as the bound."""
        return self.got <= bound if self.most else self.got >= bound


def targets(run: dict[str, Any]) -> list[Target]:
    """Hold the run against what was set as a target before it."""
    ours, theirs = (cells(run, stack, SIZE, CALLERS) for stack in ("facet", "baseline"))
    both, overhead = run["side_by_side"], run["overhead"]
    memory, workers = both["memory"], both["workers"]
    one, busy = overhead["one_caller"], overhead["busy"]
    added = percentile(latencies(one["the whole path"]), 50) - percentile(latencies(one[NAME]), 50)
    loaded = sorted(each for times in overhead["loaded"] for each in times)
    slower = percentile(latencies(theirs), 99) / percentile(latencies(ours), 99)
    of_alone = 100 * rate(busy["the whole path"]).middle / rate(busy[NAME]).middle
    return [
        Target(
            f"requests per CPU-second, facet over baseline, {SIZE}, {CALLERS} callers",
            6, 10, per_cpu_second(ours).middle / per_cpu_second(theirs).middle, "x",
        ),
        Target(
            f"requests/s, facet over baseline, {SIZE}, {CALLERS} callers",
            8, 12, rate(ours).middle / rate(theirs).middle, "x",
        ),
        Target(f"p99, baseline over facet, {SIZE}, {CALLERS} callers", 8, 15, slower, "x"),
        Target(
            "memory of all processes, baseline over facet, as many workers",
            3, 5, memory[f"baseline, {workers}"] / memory[f"facet, {workers}"], "x",
        ),
        Target(f"facet's throughput over the detector alone, {SIZE}, raw body", 80, 90, of_alone, " %"),
        Target("latency that the path adds, one caller", 6, 3, added, " ms", most=True),
        Target("p99 over p50 at 70 % load", 3, 2, percentile(loaded, 99) / percentile(loaded, 50), "x", most=True),
    ]  # fmt: skip
