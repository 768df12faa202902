"""Plots the figures of docs/figures.md."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from whole_path.figures import Figure, cells, each_rate, enough, latencies, percentile
from whole_path.load import SIZE

mpl.use("agg")  # draws to files, without a screen

COLORS = {"facet": "#0b5fa5", "baseline": "#b3541e"}


def plot_callers(run: dict[str, Any], path: Path) -> None:
    """Plot throughput and p95 of both stacks over the number of callers; the baseline has too few answers for p99."""
    callers = sorted({cell["callers"] for cell in run["side_by_side"]["cells"] if cell["size"] == SIZE})
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
    for stack, color in COLORS.items():
        samples = [cells(run, stack, SIZE, count) for count in callers]
        rates = [Figure.of(each_rate(each)) for each in samples]
        spread = [[r.middle - r.least for r in rates], [r.most - r.middle for r in rates]]
        left.errorbar(callers, [r.middle for r in rates], yerr=spread, fmt="o-", capsize=3, color=color, label=stack)
        waited = {count: latencies(each) for count, each in zip(callers, samples, strict=True)}
        p95 = {count: percentile(each, 95) for count, each in waited.items() if enough(each, 95)}
        right.plot(list(p95), list(p95.values()), "o-", color=color, label=stack)
        if p95:  # a short run has none
            right.set_yscale("log")
    for axes, label in ((left, "requests/s"), (right, "p95, ms")):
        axes.set_xlabel("callers")
        axes.set_xticks(callers)
        axes.set_ylabel(label)
        axes.legend()
    left.set_ylim(bottom=0)
    figure.suptitle(f"images of {SIZE}: with one face, several, none", fontsize=10)
    _save(figure, path)


def plot_scale(run: dict[str, Any], path: Path) -> None:
    """Plot throughput over the number of sleeping workers, with the ideal."""
    rows, seconds = run["scale"]["rows"], run["scale"]["service_seconds"]
    workers = [row["workers"] for row in rows]
    figure, axes = plt.subplots(figsize=(5.5, 3.4), layout="constrained")
    axes.plot([0, *workers], [0, *(count / seconds for count in workers)], ":", color="gray", label="the sleep alone")
    axes.plot(
        workers,
        [Figure.of(each_rate(row["samples"])).middle for row in rows],
        "o-",
        color=COLORS["facet"],
        label="measured",
    )
    axes.set_xlabel(f"workers that sleep {1000 * seconds:.0f} ms for an image")
    axes.set_xticks(workers)
    axes.set_ylabel("requests/s")
    axes.set_ylim(bottom=0)
    axes.legend()
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=110)
    plt.close(figure)
