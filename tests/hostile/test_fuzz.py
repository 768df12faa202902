"""The short form of `make fuzz`: the same cases each time."""

from __future__ import annotations

from pathlib import Path

from tests.hostile.fuzz import Fuzz
from tests.stack.running import running_stack

SEED = 20261123
CASES = 5000


def test_whatever_is_sent_has_a_documented_answer(tmp_path: Path) -> None:
    """In the README's table; no process dies, no log complains, and good pictures are answered as before."""
    with running_stack(tmp_path / "logs") as stack:
        report = Fuzz(stack).run(SEED, range(CASES))
    print(report.figures())
    assert [(outcome.case.name, outcome.case.kind, outcome.fault) for outcome in report.faults] == []
    assert report.troubles == []
    assert report.words["200"] > CASES / 50  # what is hardly damaged is examined
    assert report.words["422"] > CASES / 10
