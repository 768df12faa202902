"""Takes the raw numbers of a run together: medians over the rounds with their range, percentiles over all requests."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import Any

from whole_path.alone import NAME
from whole_path.overhead import EVEN

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
        """Write it, with its range if there is one."""
        spread = "" if self.least == self.most else f" ({self.least:.1f} to {self.most:.1f})"
        return f"{self.middle:.1f}{spread}"


def each_rate(samples: Samples) -> list[float]:
    """Give requests a second, for each round."""
    return [sample["rate"] for sample in samples]


def each_cpu(samples: Samples) -> list[float]:
    """Give milliseconds of CPU time for a request, all processes of the stack, for each round."""
    return [sum(sample["cpu"].values()) for sample in samples]


def per_cpu_second(samples: Samples) -> list[float]:
    """Give requests for a second of CPU time, for each round."""
    return [1000 / used for used in each_cpu(samples)]


def each_p50(samples: Samples) -> list[float]:
    """Give the median latency in milliseconds, for each round."""
    return [percentile(latencies([sample]), 50) for sample in samples]


def times(ours: list[float], theirs: list[float]) -> Figure:
    """Compare round by round: what disturbs the machine for longer disturbs both, who are measured in turns."""
    return Figure.of([one / other for one, other in zip(ours, theirs, strict=True)])


def tiers(samples: Samples) -> dict[str, float]:
    """Give milliseconds of CPU time for a request in each tier."""
    return {tier: median(sample["cpu"][tier] for sample in samples) for tier in samples[0]["cpu"]}


def latencies(samples: Samples, name: str = "") -> list[float]:
    """Put together the milliseconds of all rounds, of one kind of picture or of all."""
    by_picture = [each for sample in samples for each in sample["latencies"].items()]
    return sorted(each for picture, waited in by_picture if name in picture for each in waited)


def percentile(ordered: list[float], percent: float) -> float:
    """Give the smallest value that so many per cent do not exceed."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else math.nan


def cells(run: dict[str, Any], stack: str, size: str, callers: int) -> Samples:
    """Pick the rounds of one cell of the comparison."""
    wanted = {"stack": stack, "size": size, "callers": callers}
    return [cell for cell in run["side_by_side"]["cells"] if wanted.items() <= cell.items()]


def at_seventy(run: dict[str, Any], times: str, percent: float) -> list[float]:
    """Give a percentile of the requests at 70 % load that left at such times, in milliseconds, for each round."""
    return [percentile(sorted(part["latencies"]), percent) for part in run["overhead"]["loaded"][times]]


@dataclass(frozen=True)
class Target:
    """A row of the targets. `most` says that the figure should be at most, not at least, `must` and `aim`."""

    what: str
    must: float
    aim: float
    got: Figure
    unit: str
    most: bool = False

    def reaches(self, bound: float) -> bool:
        """Whether the figure is as good as the bound."""
        return self.got.middle <= bound if self.most else self.got.middle >= bound


def targets(run: dict[str, Any]) -> list[Target]:
    """Hold the run against what was set as a target before it."""
    ours, theirs = (cells(run, stack, SIZE, CALLERS) for stack in ("facet", "baseline"))
    both, overhead = run["side_by_side"], run["overhead"]
    memory, workers = both["memory"], both["workers"]
    slower = percentile(latencies(theirs), 99) / percentile(latencies(ours), 99)
    lighter = memory[f"baseline, {workers}"] / memory[f"facet, {workers}"]
    busy, one = overhead["busy"], overhead["one_caller"]
    of_alone = times([100 * rate for rate in each_rate(busy["the whole path"])], each_rate(busy[NAME]))
    medians = zip(each_p50(one["the whole path"]), each_p50(one[NAME]), strict=True)
    added = Figure.of([whole - alone for whole, alone in medians])
    tail = times(at_seventy(run, EVEN, 99), at_seventy(run, EVEN, 50))
    over = f"facet over baseline, {SIZE}, {CALLERS} callers"
    return [
        Target(f"requests per CPU-second, {over}", 6, 10, times(per_cpu_second(ours), per_cpu_second(theirs)), "x"),
        Target(f"requests/s, {over}", 8, 12, times(each_rate(ours), each_rate(theirs)), "x"),
        Target(f"p99, baseline over facet, {SIZE}, {CALLERS} callers", 8, 15, Figure.of([slower]), "x"),
        Target("memory of all processes, baseline over facet, as many workers", 3, 5, Figure.of([lighter]), "x"),
        Target(f"facet's throughput over the detector alone, {SIZE}, raw body", 80, 90, of_alone, " %"),
        Target("latency that the path adds, one caller", 6, 3, added, " ms", most=True),
        Target("p99 over p50 at 70 % load, open loop, even times", 3, 2, tail, "x", most=True),
    ]
