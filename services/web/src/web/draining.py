"""Draining: on SIGTERM a gateway first fails its health check, and stops once Envoy has moved to another gateway.

gunicorn by itself stops accepting at once, but its listening socket stays open until the last request is answered.
Envoy could still connect; its requests would wait in the socket's backlog, and would all be reset at the same time.
"""

import mmap
import os
import signal
from typing import Any

_draining = mmap.mmap(-1, 1)  # gunicorn's processes share it: they are forked after this


def is_draining() -> bool:
    return _draining[0] == 1


def drain_before_stopping(arbiter: Any, seconds: float) -> None:
    """Make SIGTERM start the drain, and stop gunicorn after `seconds` or at a second SIGTERM."""

    def stop(*_: object) -> None:
        arbiter.signal(signal.SIGTERM, None)

    def drain(*_: object) -> None:
        if os.getpid() != arbiter.pid:  # a process that was just forked and has not set its own handlers
            return
        if is_draining() or not seconds:
            stop()
        else:
            _draining[0] = 1
            signal.setitimer(signal.ITIMER_REAL, seconds)

    signal.signal(signal.SIGALRM, stop)
    signal.signal(signal.SIGTERM, drain)
