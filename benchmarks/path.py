"""The whole path: facet and the stack that a tutorial builds, side by side; what the path costs; and how it grows.

    make bench

It writes docs/figures.md, the table of docs/scaling.md, their plots and the raw numbers. Some fifteen minutes on two
CPUs, which should have nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from report import ROOT
from whole_path import overhead, scale, side_by_side
from whole_path.pages import write_pages
from whole_path.pictures import SIZES

RESULTS = ROOT / "benchmarks/results"


def main() -> int:
    """Measure, keep the numbers, write the pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of everything")
    parser.add_argument("--quick", action="store_true", help="one short round of little: to see that it runs")
    parser.add_argument("--pages-only", action="store_true", help="write the pages from the numbers of the last run")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for path.json")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="folder with the pages")
    arguments = parser.parse_args()
    raw = arguments.results / "path.json"
    if not arguments.pages_only:
        quick, length = arguments.quick, 0.1 if arguments.quick else 1.0
        rounds = 1 if quick else arguments.rounds
        sizes, callers = (["640x480"], (1, 8)) if quick else (list(SIZES), side_by_side.CALLERS)
        processes = (os.cpu_count() or 1) if quick else side_by_side.BASELINE_PROCESSES
        figures = {
            "quick": quick,
            "rounds": rounds,
            "side_by_side": side_by_side.compare(rounds, length, sizes, callers, processes),
            "overhead": overhead.measure(1 if quick else rounds + 2, length),
            "scale": scale.measure(length, (3,) if quick else scale.WORKERS),
        }
        raw.parent.mkdir(parents=True, exist_ok=True)
        raw.write_text(json.dumps(figures), encoding="utf-8")
    print(write_pages(json.loads(raw.read_text(encoding="utf-8")), arguments.docs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
