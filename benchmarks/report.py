"""Writes docs/figures.md, a section for each command that measures.

    python benchmarks/report.py faults benchmarks/results/faults.jsonl

puts the lines that the tests' fixture `figures` has written into the section `faults`.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
REPORT = ROOT / "docs/figures.md"


def machine() -> str:
    """Say in a line what was measured on, when, and which state of the project."""
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    processor = found[1] if found else platform.machine()
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    today = dt.datetime.now(dt.UTC).date()
    return f"{processor}, {os.cpu_count()} CPUs, Linux {platform.release()}, {today}, commit {commit}"


def write_section(name: str, command: str, text: str, report: Path = REPORT) -> None:
    """Put a text between the markers of a section, with the command and the machine above it. Raises ValueError."""
    begin, end = f"<!-- {name}: {command} -->", f"<!-- end of {name} -->"
    whole = report.read_text()
    pattern = re.compile(rf"<!-- {name}: .*? -->.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(whole):
        raise ValueError(f"{report} has no section {name}")
    section = f"{begin}\n`{command}`, {machine()}:\n\n{text.strip()}\n{end}"
    report.write_text(pattern.sub(lambda _: section, whole))


def table(lines: list[str]) -> str:
    """Make a table of what tests measured, a row for each; what falls short says so."""
    rows = ["| what happens | measured | target | met |", "| --- | --- | --- | --- |"]
    for line in lines:
        figures = json.loads(line)
        measured = "; ".join(f"{name} {value:,.4g}" for name, value in figures["measured"].items())
        targets = [f"{name} at most {bound:,.4g}" for name, bound in figures["at_most"].items()]
        targets += [f"{name} at least {bound:,.4g}" for name, bound in figures["at_least"].items()]
        met = "yes" if figures["met"] else "**no**"
        rows.append(f"| {figures['row']} | {measured} | {'; '.join(targets)} | {met if targets else ''} |")
    return "\n".join(rows)


if __name__ == "__main__":
    _, section, path, shown = sys.argv
    write_section(section, shown, table(Path(path).read_text().splitlines()))
