"""The times that are recorded for the steps of an examination."""

from collections.abc import Iterator

import pytest
from inference.mtcnn.steps import Abandoned, Steps


@pytest.fixture
def steps() -> Steps:
    """Steps on a clock that advances by a second each time it is read."""
    ticks: Iterator[int] = iter(range(100))
    return Steps(clock=lambda: float(next(ticks)))


def test_a_step_in_pieces_has_the_start_of_the_first_and_the_sum_of_all(steps: Steps) -> None:
    """The time between the pieces belongs to other steps."""
    for name in ("pyramid", "pnet", "pyramid", "pnet"):
        with steps(name):
            pass
    assert steps.began == {"pyramid": 0, "pnet": 2}
    assert steps.milliseconds == {"pyramid": 2000, "pnet": 2000}


def test_a_step_that_fails_is_recorded_too(steps: Steps) -> None:
    """Its time was spent all the same."""
    with pytest.raises(ValueError, match="broken"), steps("decode"):
        raise ValueError("broken")
    assert steps.milliseconds == {"decode": 1000}


def test_an_unfinished_step_has_a_start_and_no_time(steps: Steps) -> None:
    """Another thread can see which step runs."""
    with steps("nms"):
        assert (steps.began, steps.milliseconds) == ({"nms": 0}, {})


def test_an_unfinished_piece_counts_until_now(steps: Steps) -> None:
    """It is added to the earlier pieces of its step, until it ends."""
    for name in ("crops", "rnet"):
        with steps(name):
            pass
    with steps("crops"):
        assert steps.until_now() == [("crops", 0, 2000), ("rnet", 2, 1000)]
    with steps("onet"):
        assert steps.until_now() == [("crops", 0, 3000), ("rnet", 2, 1000), ("onet", 7, 1000)]
    assert steps.until_now()[-1] == ("onet", 7, 2000)


def test_a_step_that_ran_elsewhere_is_recorded_afterwards(steps: Steps) -> None:
    """So is the wait in the queue, before the detector runs."""
    steps.ran("queue", -4.0)
    assert (steps.began, steps.milliseconds) == ({"queue": -4}, {"queue": 4000})


def test_no_step_begins_after_it_was_abandoned(steps: Steps) -> None:
    """It is not recorded either."""
    steps.abandon()
    with pytest.raises(Abandoned), steps("decode"):
        pytest.fail("it was run")
    assert steps.began == {}
