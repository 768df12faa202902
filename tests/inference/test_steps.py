"""What is taken down of the steps of a detection."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from inference.mtcnn.steps import Abandoned, Steps


@pytest.fixture
def steps() -> Steps:
    """On a clock that goes on by a second each time it is looked at."""
    ticks: Iterator[int] = iter(range(100))
    return Steps(clock=lambda: float(next(ticks)))


def test_a_step_in_pieces_has_its_first_begin_and_the_sum_of_its_times(steps: Steps) -> None:
    """The time between the pieces is the others'."""
    for name in ("pyramid", "pnet", "pyramid", "pnet"):
        with steps(name):
            pass
    assert steps.began == {"pyramid": 0, "pnet": 2}
    assert steps.milliseconds == {"pyramid": 2000, "pnet": 2000}


def test_a_step_that_fails_is_taken_down_too(steps: Steps) -> None:
    """That is where the time went."""
    with pytest.raises(ValueError, match="broken"), steps("decode"):
        raise ValueError("broken")
    assert steps.milliseconds == {"decode": 1000}


def test_a_step_that_goes_on_has_begun_and_has_no_time_yet(steps: Steps) -> None:
    """Whoever looks from another thread sees where it stands."""
    with steps("nms"):
        assert (steps.began, steps.milliseconds) == ({"nms": 0}, {})


def test_the_piece_that_goes_on_counts_until_now(steps: Steps) -> None:
    """Beside what the earlier pieces took, and only as long as it goes on."""
    for name in ("crops", "rnet"):
        with steps(name):
            pass
    with steps("crops"):
        assert steps.until_now() == [("crops", 0, 2000), ("rnet", 2, 1000)]
    with steps("onet"):
        assert steps.until_now() == [("crops", 0, 3000), ("rnet", 2, 1000), ("onet", 7, 1000)]
    assert steps.until_now()[-1] == ("onet", 7, 2000)


def test_what_ran_elsewhere_is_taken_down_afterwards(steps: Steps) -> None:
    """The wait in the line, which is no step of the detector's."""
    steps.ran("queue", -4.0)
    assert (steps.began, steps.milliseconds) == ({"queue": -4}, {"queue": 4000})


def test_no_step_begins_for_nobody(steps: Steps) -> None:
    """And none is taken down."""
    steps.abandon()
    with pytest.raises(Abandoned), steps("decode"):
        pytest.fail("it was run")
    assert steps.began == {}
