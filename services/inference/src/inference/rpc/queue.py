"""Runs one inference at a time: a bounded queue in front of the one thread that computes."""

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

from inference.mtcnn.steps import Steps
from inference.rpc.errors import Busy

T = TypeVar("T")
# A timer of a running process fires within this time; a later one means that the process was stopped.
LATE_SECONDS = 0.5
# Bytes of images that may wait: what the container's memory leaves beside the largest image under examination.
MEMORY = 160 * 1024 * 1024
# The next work is expected to take the median of this many last times, so that a single long one does not count.
REMEMBERED = 9


@dataclass(slots=True, eq=False)
class _Waiter:
    """A caller that waits: its turn comes when `turn` is done."""

    turn: asyncio.Future[None]
    size: int


class InferenceQueue:
    """Runs one piece of work at a time in a thread, first come, first served. The event loop never waits for it.

    At most `capacity` callers wait, with at most `memory` bytes, for at most `max_wait` seconds each. Further callers
    get Busy at once, as do callers whose expected wait is longer than `max_wait`.

    A streaming caller waits in the same queue and counts for the other callers, but is never refused: it may wait until
    its deadline. It sends its next image only after this one is answered, and the number of streams is bounded.
    """

    def __init__(self, capacity: int, max_wait: float, *, memory: int = MEMORY) -> None:
        self._capacity = capacity
        self._max_wait = max_wait
        self._memory = memory
        self._waiters: deque[_Waiter] = deque()
        self._taken = False  # whether a caller has the turn
        self._times: deque[float] = deque(maxlen=REMEMBERED)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inference")
        self.running: contextvars.Context | None = None  # of the running work, which holds its request id for the log

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    @property
    def waiting_bytes(self) -> int:
        return sum(waiter.size for waiter in self._waiters)

    async def run(self, work: Callable[[], T], steps: Steps, *, size: int = 0, streaming: bool = False) -> T:
        """Wait for the turn, then run `work` and give its result. Raises Busy, or what `work` raises.

        `size` is the memory in bytes that the caller holds while it waits. When a caller is cancelled, `steps` is
        abandoned: the work ends before its next step, and only then does the turn pass on.
        """
        await self._wait_for_turn(steps, size, streaming=streaming)
        began = time.monotonic()
        self.running = contextvars.copy_context()
        running = asyncio.get_running_loop().run_in_executor(self._thread, self.running.copy().run, work)
        running.add_done_callback(self._finish)
        try:
            result = await asyncio.shield(running)
        except asyncio.CancelledError:
            steps.abandon()
            raise
        self._times.append(time.monotonic() - began)
        return result

    async def _wait_for_turn(self, steps: Steps, size: int, *, streaming: bool) -> None:
        arrived = time.monotonic()
        try:
            if not self._taken:
                self._taken = True
            elif not streaming and self._is_full(size):
                raise Busy(f"{self.waiting} requests are waiting already; try again in a second")
            else:
                await self._wait(size, None if streaming else self._max_wait)
        finally:
            steps.ran("queue", arrived)  # also for callers that are refused or give up

    def _is_full(self, size: int) -> bool:
        too_late = bool(self._times) and self.waiting * median(self._times) > self._max_wait
        return self.waiting >= self._capacity or self.waiting_bytes + size > self._memory or too_late

    async def _wait(self, size: int, seconds: float | None) -> None:
        """Wait in the queue until the turn is handed over. Raises Busy after `seconds`."""
        waiter = _Waiter(asyncio.get_running_loop().create_future(), size)
        self._waiters.append(waiter)
        try:
            await _until_done(waiter.turn, seconds)
        except BaseException:
            if waiter.turn.done():  # cancelled between the hand-over and this task's next step
                self._hand_over()
            else:
                self._waiters.remove(waiter)
            raise

    def _finish(self, running: asyncio.Future[T]) -> None:
        self.running = None
        self._hand_over()
        # Looked at, so that asyncio does not report the error of abandoned work.
        running.cancelled() or running.exception()

    def _hand_over(self) -> None:
        """Pass the turn to the first waiter; without one, the thread is free."""
        if self._waiters:
            self._waiters.popleft().turn.set_result(None)
        else:
            self._taken = False


async def _until_done(turn: asyncio.Future[None], seconds: float | None) -> None:
    """Wait for a turn. Raises Busy after `seconds`, unless this process was stopped meanwhile (SIGSTOP)."""
    now = asyncio.get_running_loop().time
    while not turn.done():
        began = now()
        await asyncio.wait([turn], timeout=seconds)
        if seconds is not None and not turn.done() and now() - began - seconds <= LATE_SECONDS:
            raise Busy(f"waited {seconds:g} s and the worker is still busy; try again in a second")
