"""Summarizes the raw numbers of a run: medians over the rounds with their range, percentiles over all requests."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from whole_path.alone import NAME
from whole_path.load import CALLERS, SIZE
from whole_path.overhead import EVEN, RANDOM, WHOLE

Samples = list[dict[str, Any]]


@dataclass(frozen=True)
class Figure:
    """The median, the minimum and the maximum over the rounds."""

    middle: float
    least: float
    most: float

    @classmethod
    def of(cls, values: list[float]) -> Figure:
        """Summarize rounds."""
        return cls(median(values), min(values), max(values))

    def __str__(self) -> str:
        """Format the figure with its range, if it has one."""
        return self.text()

    def text(self, unit: str = "") -> str:
        """Format the figure with a unit."""
        spread = "" if self.least == self.most else f" ({self.least:.1f} to {self.most:.1f})"
        return f"{self.middle:.1f}{unit}{spread}"


def each_rate(samples: Samples) -> list[float]:
    """Return requests per second for each round."""
    return [sample["rate"] for sample in samples]


def each_cpu(samples: Samples) -> list[float]:
    """Return milliseconds of CPU time per request, over all processes of the stack, for each round."""
    return [sum(sample["cpu"].values()) for sample in samples]


def per_cpu_second(samples: Samples) -> list[float]:
    """Return requests per second of CPU time for each round."""
    return [1000 / used for used in each_cpu(samples)]


def each_p50(samples: Samples) -> list[float]:
    """Return the median latency in milliseconds for each round."""
    return [percentile(latencies([sample]), 50) for sample in samples]


def over(ours: list[float], theirs: list[float]) -> Figure:
    """Compare round by round: the stacks take turns, so that a longer disturbance affects both."""
    return Figure.of([one / other for one, other in zip(ours, theirs, strict=True)])


def minus(ours: list[float], theirs: list[float]) -> Figure:
    """Return the difference for each round."""
    return Figure.of([one - other for one, other in zip(ours, theirs, strict=True)])


def tiers(samples: Samples) -> dict[str, float]:
    """Return milliseconds of CPU time for a request in each tier."""
    return {tier: median(sample["cpu"][tier] for sample in samples) for tier in samples[0]["cpu"]}


def latencies(samples: Samples, name: str = "") -> list[float]:
    """Return the milliseconds of all rounds, for one kind of image or for all."""
    by_image = [each for sample in samples for each in sample["latencies"].items()]
    return sorted(each for image, waited in by_image if name in image for each in waited)


def percentile(ordered: list[float], percent: float) -> float:
    """Return the smallest value that this percentage of all does not exceed."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else math.nan


def rank(ordered: list[float], percent: float, digits: int = 0) -> str:
    """Format a percentile, or "-" if there are too few values for it."""
    return f"{percentile(ordered, percent):.{digits}f}" if enough(ordered, percent) else "-"


def enough(ordered: list[float], percent: float) -> bool:
    """Whether there are enough values for a percentile: p99 needs a hundred."""
    return len(ordered) * (100 - percent) >= 100


def busiest_over_idlest(answered: Mapping[str, int], workers: int) -> float:
    """Return the ratio of the busiest worker's answers to the idlest one's; infinite if one answered nothing."""
    return max(answered.values()) / min(answered.values()) if len(answered) == workers else math.inf


def cells(run: dict[str, Any], stack: str, size: str, callers: int) -> Samples:
    """Return the rounds of one cell of the comparison."""
    wanted = {"stack": stack, "size": size, "callers": callers}
    return [cell for cell in run["side_by_side"]["cells"] if wanted.items() <= cell.items()]


def at_seventy(run: dict[str, Any], when: str, percent: float) -> list[float]:
    """Return a percentile of the latency at 70 % load in milliseconds, for each round."""
    return [percentile(sorted(part["latencies"]), percent) for part in run["overhead"]["loaded"][when]]


@dataclass(frozen=True)
class Target:
    """A row of the targets. With `most`, `must` and `aim` are upper bounds, otherwise lower bounds."""

    what: str
    must: float
    aim: float
    got: Figure
    unit: str
    most: bool = False
    short_of_must: str = ""
    """A remark for a figure that misses `must`."""

    def reaches(self, bound: float) -> bool:
        """Whether the figure, as shown, meets the bound."""
        shown = round(self.got.middle, 1)
        return shown <= bound if self.most else shown >= bound


def targets(run: dict[str, Any]) -> list[Target]:
    """Compare the run with the targets, which were set before it."""
    one = run["overhead"]["one_caller"]
    added = minus(each_p50(one[WHOLE]), each_p50(one[NAME]))
    busy = run["overhead"]["busy"]
    of_alone = over([100 * rate for rate in each_rate(busy[WHOLE])], each_rate(busy[NAME]))
    return [
        *against_the_baseline(run),
        Target(f"facet's throughput over the detector alone, {SIZE}, raw body", 80, 90, of_alone, " %"),
        Target("latency that the path adds, one caller", 6, 3, added, " ms", most=True),
        *tails(run),
    ]


def against_the_baseline(run: dict[str, Any]) -> list[Target]:
    """Return the targets that compare both stacks."""
    ours, theirs = (cells(run, stack, SIZE, CALLERS) for stack in ("facet", "baseline"))
    cell = f"{SIZE}, {CALLERS} callers"
    both = f"facet over baseline, {cell}"
    return [
        Target(f"requests per CPU-second, {both}", 6, 10, over(per_cpu_second(ours), per_cpu_second(theirs)), "x"),
        Target(f"requests/s, {both}", 8, 12, over(each_rate(ours), each_rate(theirs)), "x"),
        Target(f"p99, baseline over facet, {cell}", 8, 15, worst_of(theirs, ours), "x"),
        Target("memory of all processes, baseline over facet, same number of workers", 3, 5, lighter(run), "x"),
    ]


def worst_of(theirs: Samples, ours: Samples) -> Figure:
    """Compare p99 round by round, or over all rounds if a round has too few answers."""
    rounds = [[latencies([sample]) for sample in samples] for samples in (theirs, ours)]
    if not all(enough(waited, 99) for samples in rounds for waited in samples):
        rounds = [[latencies(samples)] for samples in (theirs, ours)]
    return over(*([percentile(waited, 99) for waited in samples] for samples in rounds))


def lighter(run: dict[str, Any]) -> Figure:
    """Return the ratio of the baseline's memory to facet's, with as many processes as workers."""
    memory, workers = run["side_by_side"]["memory"], run["side_by_side"]["workers"]
    return Figure.of([memory[f"baseline, {workers}"] / memory[f"facet, {workers}"]])


def tails(run: dict[str, Any]) -> list[Target]:
    """Return the targets of p99 over p50 under open-loop load. Random arrivals alone cause some waiting."""
    middle, worst = run["overhead"]["ideal"]
    says = {RANDOM: f"; a perfect queue has {worst / middle:.1f}x", EVEN: ""}
    return [
        Target(
            f"p99 over p50 at 70 % load, open loop, {when}",
            *(3, 2),
            over(at_seventy(run, when, 99), at_seventy(run, when, 50)),
            "x",
            most=True,
            short_of_must=says[when],
        )
        for when in (RANDOM, EVEN)
    ]
