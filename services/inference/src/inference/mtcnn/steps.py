"""The steps of one examination: each is timed, and none begins after its caller has stopped waiting."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Abandoned(Exception):
    """The caller no longer waits for the result: its deadline passed or it disconnected."""


class Steps:
    """Times the steps of one examination, and stops it when its result is no longer wanted.

    `deadline` is a time of `time.monotonic()` in seconds; `clock` times the steps. A step can run in pieces: `began`
    holds the start of its first piece, `milliseconds` the total of its finished pieces. `abandon` and `until_now` may
    be called from another thread.
    """

    def __init__(self, deadline: float = float("inf"), clock: Callable[[], float] = time.monotonic) -> None:
        self.began: dict[str, float] = {}
        self.milliseconds: dict[str, float] = {}
        self._running: tuple[str, float] | None = None  # the unfinished piece and its start
        self._deadline = deadline
        self._clock = clock
        self._abandoned = False

    def abandon(self) -> None:
        """Make the next step raise Abandoned."""
        self._abandoned = True

    def ran(self, name: str, began: float) -> None:
        """Record a step that ran from `began`, in seconds of the clock, until now."""
        self.began.setdefault(name, began)
        self.milliseconds[name] = self.milliseconds.get(name, 0.0) + 1000 * (self._clock() - began)

    def until_now(self) -> list[tuple[str, float, float]]:
        """Give the name, the start and the milliseconds of each step, including the unfinished piece."""
        # Read in this order, so that a piece that ends in between is not counted twice.
        milliseconds, running = dict(self.milliseconds), self._running
        if running:
            name, began = running
            milliseconds[name] = milliseconds.get(name, 0.0) + 1000 * (self._clock() - began)
        return [(name, self.began[name], spent) for name, spent in milliseconds.items()]

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Run and time one step, whether or not it fails. Raises Abandoned if the caller no longer waits."""
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
