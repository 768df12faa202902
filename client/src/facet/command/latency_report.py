"""The report of a load test for people: text with a histogram, and a plot."""

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path

from facet.command.load import TIMEOUT_CODES, Report, Request, histogram, latencies, percentile
from facet.command.options import usage_error

BAR = 40  # characters of the longest bar
PLOTS = (".png", ".svg")


def as_text(found: Report, requests: Sequence[Request]) -> str:
    rates = f"{found.achieved_rate:g} of {found.rate:g} per second"
    lines = [f"{found.examined} of {found.requests} images examined, {rates}"]
    lines += [f"{count} x {code}" for code, count in found.errors.items()]
    if counting := latencies(requests):
        lost = min((1000 * request.latency for request in requests if request.code in TIMEOUT_CODES), default=math.inf)
        lines += ["", "percentile  latency"]
        for percent, ms in found.latency_ms.items():
            lines += [f"{percent:>10}  {'at least ' if ms >= lost else ''}{ms:.1f} ms"]
        if found.in_vain:
            lines += [f"timed out, and count with the time that they waited: {found.in_vain}"]
        counted = histogram(counting)
        longest = max(count for _, _, count in counted)
        lines += ["", *(_bar(low, high, count, longest) for low, high, count in counted)]
    if not found.kept_up:
        half, most = found.late_ms["50"], found.late_ms["99"]
        lines += ["", f"requests left late, half of them by {half:.1f} ms or more, 1 % by {most:.1f} ms or more:"]
        lines += ["this machine had no CPU left, or --in-flight is too low"]
    return "\n".join(lines)


def _bar(low: float, high: float, count: int, longest: int) -> str:
    return f"{1000 * low:8.1f} - {1000 * high:8.1f} ms {'█' * max(count > 0, round(BAR * count / longest))} {count}"


def check_plot(path: Path) -> None:
    if importlib.util.find_spec("matplotlib") is None:
        raise usage_error("--plot needs matplotlib: pip install './client[plot]' in a clone of facet")
    if path.suffix.lower() not in PLOTS:
        raise usage_error(f"{path} must end in {' or '.join(PLOTS)}")
    if path.exists():
        raise usage_error(f"{path} exists; choose another name")
    if not path.parent.is_dir():
        raise usage_error(f"{path.parent} is not a folder")


def draw(path: Path, requests: Sequence[Request], found: Report) -> None:
    """Plot latency over time and by percentile. Raises OSError, also when the file exists."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra, and takes a second

    figure = Figure(figsize=(10, 4), layout="constrained")
    over_time, by_percentile = figure.subplots(1, 2)
    good, failed = [s for s in requests if not s.code], [s for s in requests if s.code]
    for some, style, label in ((good, ".", "examined"), (failed, "x", "failed")):
        if some:
            over_time.plot([s.planned for s in some], [1000 * s.latency for s in some], style, label=label)
    over_time.set(xlabel="planned time, s", ylabel="latency, ms", ylim=(0, None))
    over_time.legend()
    if ordered := latencies(requests):
        shares = [100 - 100 / 10 ** (step / 20) for step in range(61)]  # 0 to 99.9 %, 20 points for each nine
        by_percentile.plot([100 / (100 - p) for p in shares], [1000 * percentile(ordered, p) for p in shares])
    by_percentile.set(xscale="log", xlabel="percentile", ylabel="latency, ms", ylim=(0, None))
    by_percentile.set_xticks([1, 2, 10, 100, 1000], ["0", "50", "90", "99", "99.9"])
    figure.suptitle(f"{found.rate:g} requests per second, {found.examined} of {found.requests} examined")
    with path.open("xb") as file:
        figure.savefig(file, format=path.suffix[1:].lower())
