"""The whole path: facet and the stack that a tutorial builds, side by side; what the path costs; and how it grows.

    make bench

It writes docs/figures.md, the table of docs/scaling.md, their plots and the raw numbers. Some fifteen minutes on two
CPUs, which should have nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from report import ROOT
from whole_path import overhead, scale, side_by_side
from whole_path.pages import write_pages
from whole_path.pictures import SIZES
from whole_path.stacks import CannotCompare

RESULTS = ROOT / "benchmarks/results"
IDLE = 0.5  # of processes that want a CPU, on average over the minute before


def main() -> int:
    """Measure, keep the numbers, write the pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of everything")
    parser.add_argument("--quick", action="store_true", help="one short round of little: to see that it runs")
    parser.add_argument("--pages-only", action="store_true", help="write the pages from the numbers of the last run")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for path.json")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="folder with the pages")
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):  # whoever ends this ends the stacks with it
        signal.signal(number, signal.default_int_handler)
    raw = arguments.results / "path.json"
    if not arguments.pages_only:
        try:
            figures = measure(arguments.rounds, quick=arguments.quick)
        except CannotCompare as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        raw.parent.mkdir(parents=True, exist_ok=True)
        raw.write_text(json.dumps(figures), encoding="utf-8")
    print(write_pages(json.loads(raw.read_text(encoding="utf-8")), arguments.docs))
    return 0


def measure(rounds: int, *, quick: bool) -> dict[str, Any]:
    """Measure everything, or with `quick` a little of each. Raises CannotCompare."""
    others = os.getloadavg()[0]
    if others > IDLE:
        print(f"this machine has other work, a load of {others:.1f}: the figures will be worse", file=sys.stderr)
    if quick:
        cpus = os.cpu_count() or 1
        compared = side_by_side.compare(1, 0.1, ["640x480"], (1, 8), processes=cpus)
        return {
            "rounds": 1,
            "load_before": others,
            "side_by_side": compared,
            "overhead": overhead.measure(1, 0.1),
            "scale": scale.measure(0.1, (3,)),
        }
    return {
        "rounds": rounds,
        "load_before": others,
        "side_by_side": side_by_side.compare(rounds, 1.0, list(SIZES), side_by_side.CALLERS),
        "overhead": overhead.measure(rounds + 2, 1.0),
        "scale": scale.measure(1.0),
    }


if __name__ == "__main__":
    sys.exit(main())
