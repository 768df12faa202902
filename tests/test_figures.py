"""Figures that tests measure are printed, saved and written into a document."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from report import commit, has_section, table, write_section

ROOT = Path(__file__).parents[1]
MEASURING = """
import pytest

def test_that_measures(figures, long):
    figures("a kill", {"lost": 0, "seconds": 20.0}, at_most={"lost": 0, "seconds": 15})
    figures("another", {"goodput": 0.95, "cases": 100000, "slowest": 12345.6}, at_least={"goodput": 0.9})
    figures("a look", {"seen": 1})
    assert long == LONG

def test_that_does_not():
    assert not LONG
"""
FAILING = """
import pytest

@pytest.fixture
def broken():
    raise OSError

def test_before(figures):
    assert False

def test_needs(broken, figures):
    pass

def test_after(figures):
    figures("measured", {"lost": 1}, at_most={"lost": 0})
    assert False

def test_that_does_not_measure():
    assert False
"""


@pytest.mark.parametrize("arguments", [[], ["--numprocesses=2"], ["--long"]])
def test_figures_are_printed_and_written(tmp_path: Path, arguments: list[str]) -> None:
    """In one process or in several; --long deselects tests that measure nothing."""
    (tmp_path / "test_it.py").write_text(MEASURING.replace("LONG", str("--long" in arguments)))
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-c", "pyproject.toml", str(tmp_path)]
    file = tmp_path / "figures.jsonl"
    done = subprocess.run(
        [*command, f"--figures={file}", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    lines = file.read_text().splitlines()
    assert [json.loads(line)["met"] for line in lines] == [False, True, True]
    assert all(line in done.stdout for line in lines)
    assert table(lines).splitlines()[2:] == [
        "| a kill | lost 0; seconds 20 | lost at most 0; seconds at most 15 | **no** |",
        "| another | goodput 0.95; cases 100,000; slowest 12,346 | goodput at least 0.9 | yes |",
        "| a look | seen 1 |  |  |",
    ]


@pytest.mark.parametrize("arguments", [[], ["--numprocesses=2"]])
def test_a_failed_measurement_has_a_row(tmp_path: Path, arguments: list[str]) -> None:
    """Whether the test or its fixture fails. A test that fails after it reported figures has only their row."""
    (tmp_path / "test_it.py").write_text(FAILING)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-c", "pyproject.toml", str(tmp_path)]
    file = tmp_path / "figures.jsonl"
    done = subprocess.run(
        [*command, f"--figures={file}", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stdout
    assert sorted(table(file.read_text().splitlines()).splitlines()[2:]) == [
        "| measured | lost 1 | lost at most 0 | **no** |",
        "| not measured: test_before failed |  |  | **no** |",
        "| not measured: test_needs failed |  |  | **no** |",
    ]


def test_a_section_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    """The text between the markers is replaced on each run."""
    report = tmp_path / "figures.md"
    report.write_text("# Figures\n<!-- soak: make soak -->\n<!-- end of soak -->\nThe end.\n")
    for text in ("first", "second"):
        write_section("soak", "make soak", text, report)
    whole = report.read_text()
    assert whole.startswith("# Figures\n<!-- soak: make soak -->\n`make soak`, ")
    assert whole.endswith("\n\nsecond\n<!-- end of soak -->\nThe end.\n")
    write_section("soak", "make soak", "third", report, "that machine")
    assert "\n`make soak`, that machine:\n\nthird\n" in report.read_text()
    assert (has_section("soak", report), has_section("fuzz", report)) == (True, False)
    with pytest.raises(ValueError, match="no section fuzz"):
        write_section("fuzz", "make fuzz", "text", report)


def test_without_git_the_commit_is_left_empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Figures can be measured outside a clone."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit() == ""
