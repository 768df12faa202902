"""Writes measurements into documents: docs/figures.md has a section for each command that measures.

    python benchmarks/report.py faults benchmarks/results/faults.jsonl

writes the lines of the fixture `figures` into the section `faults`.
"""

import datetime as dt
import json
import platform
import re
import subprocess
import sys
from pathlib import Path

from inference.process.cgroup import available_cpus

ROOT = Path(__file__).parents[1]
REPORT = ROOT / "docs/figures.md"
LARGE = 1000  # above it decimals mean nothing


def machine() -> str:
    """Return one line: the machine, the date and the state of the project."""
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    processor = found[1] if found else platform.machine()
    today = dt.datetime.now(dt.UTC).date()
    return f"{processor}, {available_cpus()} CPUs, Linux {platform.release()}, {today}{commit()}"


def commit() -> str:
    """Return the state of the project, if git knows it."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f", commit {done.stdout.strip()}"


def write_section(name: str, command: str, text: str, report: Path = REPORT, measured_on: str = "") -> None:
    """Write a text between the markers of a section, below the command and the machine. Raises ValueError.

    `measured_on` defaults to this machine and the current date.
    """
    begin, end = f"<!-- {name}: {command} -->", f"<!-- end of {name} -->"
    if not has_section(name, report):
        raise ValueError(f"{report} has no section {name}")
    section = f"{begin}\n`{command}`, {measured_on or machine()}:\n\n{text.strip()}\n{end}"
    report.write_text(_between_markers(name).sub(lambda _: section, report.read_text()))


def has_section(name: str, report: Path) -> bool:
    """Whether the document exists and has the markers."""
    return report.exists() and bool(_between_markers(name).search(report.read_text()))


def _between_markers(name: str) -> re.Pattern[str]:
    return re.compile(rf"<!-- {name}: [^\n]*? -->.*?<!-- end of {name} -->", re.DOTALL)


def table(lines: list[str]) -> str:
    """Return a table with a row for each test's figures, which says where one misses its target."""
    rows = ["| what happens | measured | target | met |", "| --- | --- | --- | --- |"]
    for line in lines:
        figures = json.loads(line)
        measured = "; ".join(f"{name} {short(value)}" for name, value in figures["measured"].items())
        targets = [f"{name} at most {short(bound)}" for name, bound in figures["at_most"].items()]
        targets += [f"{name} at least {short(bound)}" for name, bound in figures["at_least"].items()]
        met = "**no**" if not figures["met"] else "yes" if targets else ""
        rows.append(f"| {figures['row']} | {measured} | {'; '.join(targets)} | {met} |")
    return "\n".join(rows)


def short(value: float) -> str:
    """Format a count in full, and other numbers with significant digits."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if abs(value) >= LARGE else f"{value:.4g}"


if __name__ == "__main__":
    _, section, path, shown = sys.argv
    write_section(section, shown, table(Path(path).read_text().splitlines()))
