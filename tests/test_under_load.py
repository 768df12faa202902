"""How the log shows that workers were replaced."""

from typing import Any

from tests.stack.under_load import replacements


def line(second: int, message: str, pid: int, **more: Any) -> dict[str, Any]:
    return {"ts": f"2026-01-01T00:00:{second:02}+00:00", "message": f"worker {message}", "pid": pid, **more}


def test_a_successor_may_have_another_slot() -> None:
    """After a rolling restart, the free slot is not always the last one."""
    log = [line(1, "ended", 4, slot=4), line(1, "started", 5, slot=3), line(3, "serves", 5, slot=3)]
    assert replacements(log, 1) == [2]
    assert replacements(log, 2) == []
    assert replacements(log[:2], 1) == []


def test_a_successor_that_is_killed_before_it_serves_prolongs_the_replacement() -> None:
    """The time counts from the end of the worker that served."""
    log = [line(1, "ended", 1), line(1, "started", 2), line(5, "ended", 2), line(6, "started", 3)]
    assert replacements(log, 2) == []
    assert replacements([*log, line(9, "serves", 3)], 2) == [8]


def test_each_container_replaces_its_own_workers() -> None:
    """Two containers may use the same process id."""
    log = [line(1, "ended", 7, container="a"), line(2, "ended", 7, container="b"), line(3, "started", 8, container="b")]
    assert replacements([*log, line(4, "serves", 8, container="b")], 2) == []
    more = [line(4, "serves", 8, container="b"), line(9, "serves", 8, container="a")]
    assert replacements([*log, *more], 2) == [2, 8]
