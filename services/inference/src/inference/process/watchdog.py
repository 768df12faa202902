"""Watches a worker from inside: sends heartbeats, reports a stall, and ends the process when it hangs."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress

from inference.rpc.queue import InferenceQueue

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 0.5
EXIT_HUNG = 4


class Watchdog:
    """Writes a heartbeat to a file descriptor of the supervisor while it runs.

    `set_serving` is called with False when the running inference takes longer than `stall_seconds`, and with True when
    that inference ends. One that takes longer than `hang_seconds` ends the process, because a thread cannot be killed.
    """

    def __init__(
        self,
        queue: InferenceQueue,
        heartbeat_fd: int,
        set_serving: Callable[[bool], Awaitable[None]],
        *,
        stall_seconds: float,
        hang_seconds: float,
    ) -> None:
        self._queue = queue
        self._heartbeat_fd = heartbeat_fd
        self._set_serving = set_serving
        self._stall_seconds = stall_seconds
        self._hang_seconds = hang_seconds

    async def run(self) -> None:
        stalled, busy_for, before = False, 0.0, None
        while True:
            # Counted in heartbeats, so that time for which the process was stopped does not count.
            running = self._queue.running
            busy_for = busy_for + HEARTBEAT_SECONDS if running is not None and running is before else 0.0
            before = running
            extra = {"seconds": busy_for}
            if running is not None and busy_for > self._hang_seconds:
                running.run(log.critical, "the inference hangs; the worker is exiting", extra=extra)
                logging.shutdown()
                os._exit(EXIT_HUNG)
            if stalled != (busy_for > self._stall_seconds):
                stalled = not stalled
                if running is not None and stalled:
                    running.run(log.warning, "the inference stalls; not serving until it ends", extra=extra)
                else:
                    log.warning("the stalled inference ended; serving again")
                await self._set_serving(not stalled)
            with suppress(BlockingIOError):  # a full pipe has unread heartbeats in it
                os.write(self._heartbeat_fd, b".")
            await asyncio.sleep(HEARTBEAT_SECONDS)
