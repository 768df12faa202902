"""The short form of `make fuzz`: the same cases each time."""

from __future__ import annotations

from tests.conftest import Figures
from tests.hostile.fuzz import GIVE_UP, SLOWEST, Fuzz
from tests.stack.running import RunningStack

SEED = 20261123
CASES, MANY = 5_000, 100_000


def test_whatever_is_sent_has_a_documented_answer(attacked: RunningStack, figures: Figures, *, long: bool) -> None:
    """In the table of docs/api.md; no process dies, no log complains, and good pictures are answered as before."""
    cases = MANY if long else CASES
    report = Fuzz(attacked, SLOWEST if long else GIVE_UP).run(SEED, range(cases))
    assert [(outcome.case.name, outcome.case.kind, outcome.fault) for outcome in report.faults] == []
    assert report.troubles == []
    assert report.words["200"] > cases / 50  # what is hardly damaged is examined
    assert report.words["422"] > cases / 10
    assert report.words["OK"] > cases / 100
    assert report.words["INVALID_ARGUMENT"] > cases / 50
    assert report.words["none"] < cases / 20
    figures(
        f"fuzz with the seed {SEED}",
        {
            "cases": cases,
            "cases_per_second": round(cases / report.seconds, 1),
            "slowest_answer_s": round(report.slowest, 2),
            "faults": len(report.faults) + len(report.troubles),
        },
        at_most={"faults": 0, "slowest_answer_s": SLOWEST},
        at_least={"cases_per_second": 150},
    )
