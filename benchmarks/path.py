"""The whole path: facet and the stack of a tutorial side by side, the cost of the path, and how it scales.

    make bench

It writes docs/figures.md, the tables of docs/scaling.md, the headline of README.md, the plots and the raw numbers. It
takes about fifteen minutes on two idle CPUs.
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inference.process.cgroup import available_cpus
from inference.settings import MAX_WORKERS
from report import ROOT, machine
from whole_path import overhead, scale, side_by_side
from whole_path.images import SIZES
from whole_path.load import CALLERS, SIZE
from whole_path.pages import write_pages
from whole_path.stacks import CannotCompare

RESULTS = ROOT / "benchmarks/results"
DOCS = ROOT / "docs"
MOST_IN_QUICK = 2  # workers, on any number of CPUs
IDLE = 0.5  # average number of processes that want a CPU, over the last minute

Part = Callable[[], dict[str, Any]]


def main() -> int:
    """Measure, save the numbers and write the pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="of every measurement")
    parser.add_argument("--quick", action="store_true", help="one short round, to see that it runs")
    parser.add_argument("--pages-only", action="store_true", help="write the pages from the numbers of the last run")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for path.json")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder with the pages; README.md is beside it")
    arguments = parser.parse_args()
    if arguments.quick and arguments.docs.resolve() == DOCS:
        parser.error("--quick measures too little for docs/: name another folder with --docs")
    for number in (signal.SIGINT, signal.SIGTERM):  # these signals end the stacks too
        signal.signal(number, signal.default_int_handler)
    raw = arguments.results / "path.json"
    try:
        if not arguments.pages_only:
            measure(arguments.rounds, raw, quick=arguments.quick)
        print(write_pages(json.loads(raw.read_text(encoding="utf-8")), arguments.docs))
    except (CannotCompare, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def measure(rounds: int, raw: Path, *, quick: bool) -> None:
    """Measure everything, or with `quick` a little of each, and save the numbers of each part at once.

    Raises CannotCompare.
    """
    others = os.getloadavg()[0]
    if others > IDLE:
        print(f"this machine is busy (load {others:.1f}); the figures will be worse", file=sys.stderr)
    cpus = min(available_cpus(), MOST_IN_QUICK if quick else MAX_WORKERS)
    run: dict[str, Any] = {"machine": machine(), "rounds": 1 if quick else rounds, "load_before": others}
    raw.parent.mkdir(parents=True, exist_ok=True)
    for name, part in (quick_parts(cpus) if quick else parts(cpus, rounds)).items():
        run[name] = part()
        raw.write_text(json.dumps(run), encoding="utf-8")


def parts(cpus: int, rounds: int) -> dict[str, Part]:
    """Return the parts of the pages, in the order of their measurement."""
    return {
        "side_by_side": lambda: side_by_side.compare(
            cpus, side_by_side.BASELINE_PROCESSES, rounds, 1.0, list(SIZES), side_by_side.ALL_CALLERS
        ),
        "overhead": lambda: overhead.measure(cpus, rounds + 2, 1.0),
        "scale": lambda: scale.measure(1.0),
    }


def quick_parts(cpus: int) -> dict[str, Part]:
    """Return a short form of each part."""
    return {
        "side_by_side": lambda: side_by_side.compare(cpus, cpus, 1, 0.1, [SIZE], (1, CALLERS)),
        "overhead": lambda: overhead.measure(cpus, 1, 0.1),
        "scale": lambda: scale.measure(0.1, (3,)),
    }


if __name__ == "__main__":
    sys.exit(main())
