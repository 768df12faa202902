"""Watches a worker from inside: beats while all is well, steps back from a stall, makes an end of a hang."""

from __future__ import annotations

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
    """Beats on a file descriptor for the supervisor, from the moment it runs.

    `say_serving` is called with False when the running inference is older than `stall_seconds`, and with True when it
    has ended after all. One older than `hang_seconds` ends the process: its thread cannot be ended in another way.
    """

    def __init__(
        self,
        queue: InferenceQueue,
        heartbeat_fd: int,
        say_serving: Callable[[bool], Awaitable[None]],
        *,
        stall_seconds: float,
        hang_seconds: float,
    ) -> None:
        self._queue = queue
        self._heartbeat_fd = heartbeat_fd
        self._say_serving = say_serving
        self._stall_seconds = stall_seconds
        self._hang_seconds = hang_seconds

    async def run(self) -> None:
        """Watch until cancelled."""
        stalled, busy_for, before = False, 0.0, None
        while True:
            # Reckoned in beats, so that time for which the whole process was stopped does not count.
            running = self._queue.running
            busy_for = busy_for + HEARTBEAT_SECONDS if running is not None and running is before else 0.0
            before = running
            if running is not None and busy_for > self._hang_seconds:
                running.run(log.critical, "the inference hangs, ending this worker", extra={"seconds": busy_for})
                logging.shutdown()
                os._exit(EXIT_HUNG)
            if stalled != (busy_for > self._stall_seconds):
                stalled = not stalled
                if running is not None and stalled:
                    running.run(log.warning, "the inference stalls, stepping back", extra={"seconds": busy_for})
                else:
                    log.warning("the inference has ended after all, serving again")
                await self._say_serving(not stalled)
            with suppress(BlockingIOError):  # the pipe is full: that tells the supervisor as much as one byte more
                os.write(self._heartbeat_fd, b".")
            await asyncio.sleep(HEARTBEAT_SECONDS)
