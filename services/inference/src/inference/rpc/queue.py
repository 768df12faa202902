"""One inference at a time: a bounded line in front of the one thread that computes."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import TypeVar

from inference.mtcnn.steps import Steps
from inference.rpc.errors import Busy

T = TypeVar("T")
LATE_SECONDS = 0.5  # no loop of ours is so late while it runs
ROOM = 160 * 1024 * 1024  # bytes; what a container has beside the worst picture and those of open streams
REMEMBERED = 9  # pieces of work whose median foretells the next; a single long one does not count


class InferenceQueue:
    """Runs one piece of work at a time in a thread of its own, so that the event loop (health!) never waits.

    At most `places` callers wait, with at most `room` bytes, none longer than `max_wait` seconds. Who comes beyond that
    gets Busy: at once, also who would wait too long if all work took as long as the last that was finished.
    """

    def __init__(self, places: int, max_wait: float, *, room: int = ROOM) -> None:
        self._places = places
        self._max_wait = max_wait
        self._room = room  # that is left
        self._took: deque[float] = deque(maxlen=REMEMBERED)
        self.waiting = 0
        self._turn = asyncio.Lock()  # first come, first served
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inference")
        self.running: contextvars.Context | None = None  # of the work that runs: its request's id, for the log

    async def run(self, work: Callable[[], T], steps: Steps, *, size: int = 0, patient: bool = False) -> T:
        """Wait for the turn, then run `work` and give its result. Raises Busy, or what `work` raises.

        Until then it takes `size` bytes of the room.

        When the caller is cancelled, `steps` is abandoned: the work ends before its next step, and only then the slot
        is free again. A `patient` caller (an open stream, which holds back its own next picture) may wait its whole
        deadline and takes no place in the line.
        """
        await self._wait_for_turn(steps, size, patient=patient)
        began = time.monotonic()
        self.running = contextvars.copy_context()
        running = asyncio.get_running_loop().run_in_executor(self._thread, self.running.copy().run, work)
        running.add_done_callback(self._leave)
        try:
            done = await asyncio.shield(running)
        except asyncio.CancelledError:
            steps.abandon()
            raise
        self._took.append(time.monotonic() - began)
        return done

    async def _wait_for_turn(self, steps: Steps, size: int, *, patient: bool) -> None:
        arrived = time.monotonic()
        if patient:
            place, size = 0, 0
        elif self._turn.locked() and self._is_full(size):
            raise Busy(f"{self.waiting} requests are waiting already; try again in a second")
        else:
            place = 1
        self.waiting += place
        self._room -= size
        try:
            while not await self._acquire(float("inf") if patient else self._max_wait):
                pass
        finally:
            self.waiting -= place
            self._room += size
            steps.ran("queue", arrived)  # also of who is turned away

    def _is_full(self, size: int) -> bool:
        too_late = bool(self._took) and self.waiting * median(self._took) > self._max_wait
        return self.waiting >= self._places or size > self._room or too_late

    async def _acquire(self, seconds: float) -> bool:
        """Take the turn within `seconds`, or raise Busy; False when this process has slept meanwhile."""
        now = asyncio.get_running_loop().time
        due = now() + seconds
        try:
            async with asyncio.timeout_at(due):
                await self._turn.acquire()
        except TimeoutError:
            # A timer that comes this late means that the whole process was stopped (SIGSTOP, a paused machine): the
            # time was not spent in the line, and nobody may be turned away for it.
            if now() - due > LATE_SECONDS:
                return False
            raise Busy(f"waited {seconds:g} s and the worker is still busy; try again in a second") from None
        return True

    def _leave(self, running: asyncio.Future[T]) -> None:
        self.running = None
        self._turn.release()
        running.cancelled() or running.exception()  # looked at, so that an abandoned work's error is not reported again
