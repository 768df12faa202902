"""The short form of `make fuzz`, with the same cases each time."""

from tests.conftest import Figures
from tests.hostile.fuzz import MAX_SECONDS, TIMEOUT, Fuzz
from tests.stack.running import RunningStack

SEED = 20261123
CASES, MANY = 2_500, 100_000


def test_every_input_gets_a_documented_answer(attacked: RunningStack, figures: Figures, *, long: bool) -> None:
    """Answers are as in docs/api.md, no process dies, no log has errors, and the control image gets the same answer."""
    cases = MANY if long else CASES
    report = Fuzz(attacked, MAX_SECONDS if long else TIMEOUT).run(SEED, range(cases))
    assert [(outcome.case.name, outcome.case.kind, outcome.fault) for outcome in report.faults] == []
    assert report.stack_faults == []
    assert report.words["200"] > cases / 50  # some cases are valid images
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
            "faults": len(report.faults) + len(report.stack_faults),
        },
        at_most={"faults": 0, "slowest_answer_s": MAX_SECONDS},
        at_least={"cases_per_second": 150},
    )
