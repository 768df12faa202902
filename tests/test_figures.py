"""What tests measure is printed, written down, and put into a document."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from report import table, write_section

ROOT = Path(__file__).parents[1]
MEASURING = """
import pytest

def test_that_measures(figures, long):
    figures("a kill", {"lost": 0, "seconds": 20.0}, at_most={"lost": 0, "seconds": 15})
    figures("another", {"goodput": 0.95}, at_least={"goodput": 0.9})
    assert long == LONG

def test_that_does_not():
    assert not LONG
"""


@pytest.mark.parametrize("arguments", [[], ["--numprocesses=2"], ["--long"]])
def test_figures_are_printed_and_written(tmp_path: Path, arguments: list[str]) -> None:
    """In one process or in several; --long leaves out what does not measure."""
    (tmp_path / "test_it.py").write_text(MEASURING.replace("LONG", str("--long" in arguments)))
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-c", "pyproject.toml", str(tmp_path)]
    file = tmp_path / "figures.jsonl"
    done = subprocess.run(
        [*command, f"--figures={file}", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    lines = file.read_text().splitlines()
    assert [json.loads(line)["met"] for line in lines] == [False, True]
    assert all(line in done.stdout for line in lines)
    assert table(lines).splitlines()[2:] == [
        "| a kill | lost 0; seconds 20 | lost at most 0; seconds at most 15 | **no** |",
        "| another | goodput 0.95 | goodput at least 0.9 | yes |",
    ]


def test_a_section_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    """Between its markers, as often as it is measured."""
    report = tmp_path / "figures.md"
    report.write_text("# Figures\n<!-- soak: make soak -->\n<!-- end of soak -->\nThe end.\n")
    for text in ("first", "second"):
        write_section("soak", "make soak", text, report)
    whole = report.read_text()
    assert whole.startswith("# Figures\n<!-- soak: make soak -->\n`make soak`, ")
    assert whole.endswith("\n\nsecond\n<!-- end of soak -->\nThe end.\n")
    with pytest.raises(ValueError, match="no section fuzz"):
        write_section("fuzz", "make fuzz", "text", report)
