"""Figures that tests measure are printed, saved and written into a document."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from report import commit, has_section, table, write_section

ROOT = Path(__file__).parents[1]
MEASURING = """
import pytest

@pytest.fixture
def broken():
    raise OSError

def test_of_three_figures(figures, long):
    figures("a kill", {"lost": 0, "seconds": 20.0}, at_most={"lost": 0, "seconds": 15})
    figures("another", {"goodput": 0.95, "cases": 100000, "slowest": 12345.6}, at_least={"goodput": 0.9})
    figures("no target", {"seen": 1})
    assert long == LONG

def test_that_fails_before_it_measures(figures):
    assert False

def test_that_cannot_start(broken, figures):
    pass

def test_that_fails_after_it_measured(figures):
    figures("measured", {"lost": 1}, at_most={"lost": 0})
    assert False

def test_without_figures():
    assert not LONG
    assert False
"""
TABLE = [
    "| a kill | lost 0; seconds 20 | lost at most 0; seconds at most 15 | **no** |",
    "| another | goodput 0.95; cases 100,000; slowest 12,346 | goodput at least 0.9 | yes |",
    "| measured | lost 1 | lost at most 0 | **no** |",
    "| no target | seen 1 |  |  |",
    "| not measured: test_that_cannot_start failed |  |  | **no** |",
    "| not measured: test_that_fails_before_it_measures failed |  |  | **no** |",
]


@pytest.mark.parametrize(
    ("arguments", "counts"),
    [
        ([], {"passed": 1, "failed": 3, "errors": 1}),
        (["--numprocesses=2"], {"passed": 1, "failed": 3, "errors": 1}),
        (["--long"], {"passed": 1, "failed": 2, "errors": 1}),
    ],
)
def test_figures_are_printed_and_written(tmp_path: Path, arguments: list[str], counts: dict[str, int]) -> None:
    """Each figure has a row, also of tests in several processes; a test that fails before it measures has a row too.

    With --long, tests without figures do not run.
    """
    (tmp_path / "test_it.py").write_text(MEASURING.replace("LONG", str("--long" in arguments)))
    file = tmp_path / "figures.jsonl"
    command = [sys.executable, "-m", "pytest", "-p", "xdist", "-p", "tests.conftest", "-c", "pyproject.toml"]
    done = subprocess.run(
        [*command, f"--figures={file}", *arguments, tmp_path],
        cwd=ROOT,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # they take longer than the tests
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    assert all(re.search(rf"\b{count} {outcome.rstrip('s')}", done.stdout) for outcome, count in counts.items()), (
        done.stdout
    )
    lines = file.read_text().splitlines()
    assert all(line in done.stdout for line in lines)
    assert sorted(table(lines).splitlines()[2:]) == TABLE


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
