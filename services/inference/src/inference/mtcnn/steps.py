"""The steps of one detection: each is timed, and none is begun for a caller who has stopped waiting."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Abandoned(Exception):
    """Nobody waits for the result any more: the deadline is over or the caller has gone."""


class Steps:
    """A stop-watch with an off switch, handed through a detection.

    `deadline` is a time of `time.monotonic()` in seconds; `clock` is what the steps are timed with. A step may be run
    in pieces: `began` has the time of its first begin, `milliseconds` what all pieces took that have ended. `abandon`
    and `until_now` may be called from another thread.
    """

    def __init__(self, deadline: float = float("inf"), clock: Callable[[], float] = time.monotonic) -> None:
        self.began: dict[str, float] = {}
        self.milliseconds: dict[str, float] = {}
        self._running: tuple[str, float] | None = None  # the piece that has not ended, and when it began
        self._deadline = deadline
        self._clock = clock
        self._abandoned = False

    def abandon(self) -> None:
        """Let the next step raise Abandoned."""
        self._abandoned = True

    def ran(self, name: str, began: float) -> None:
        """Take down that a step has run from `began`, in seconds of the clock, until now."""
        self.began.setdefault(name, began)
        self.milliseconds[name] = self.milliseconds.get(name, 0.0) + 1000 * (self._clock() - began)

    def until_now(self) -> list[tuple[str, float, float]]:
        """Give name, first begin and milliseconds of each step, with the piece that has not ended."""
        # In this order: a piece that ends meanwhile is not counted twice.
        milliseconds, running = dict(self.milliseconds), self._running
        if running:
            name, began = running
            milliseconds[name] = milliseconds.get(name, 0.0) + 1000 * (self._clock() - began)
        return [(name, self.began[name], spent) for name, spent in milliseconds.items()]

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Run and time one step, also one that fails. Raises Abandoned."""
        if self._abandoned or time.monotonic() >= self._deadline:
            raise Abandoned(f"before {name}")
        began = self._clock()
        self.began.setdefault(name, began)
        self._running = name, began
        try:
            yield
        finally:
            self._running = None
            self.ran(name, began)
