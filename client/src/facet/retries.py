"""How long a call may take with all its tries, and how long to wait between them."""

from __future__ import annotations

import random
import time

from facet.errors import BrokeOff, FacetError

DEFAULT_TIMEOUT = 15.0  # the longest that the service itself gives a picture
DEFAULT_RETRIES = 5
GRACE = 1.0  # the service's own answer that time is over says more than ours, and comes a little later
INITIAL_DELAY = 0.1  # seconds; doubled from try to try
MAX_DELAY = 5.0
MAX_CONNECTION_LOSSES = 1  # a picture that kills its worker shall not kill them all


class RetryPolicy:
    """The time and the tries that one call has."""

    def __init__(self, timeout: float, retries: int) -> None:
        self._due = time.monotonic() + timeout
        self._retries = retries
        self._tries = 0
        self._connection_losses = 0

    @property
    def left(self) -> float:
        """Seconds until the call's deadline."""
        return max(0.0, self._due - time.monotonic())

    def pause(self, error: FacetError) -> float:
        """Say how many seconds to wait before the next try; raise `error` if there is to be none.

        The pause is at least what the service asks for, and jittered: refused callers do not come back together.
        """
        backoff = min(MAX_DELAY, INITIAL_DELAY * 2**self._tries)
        pause = (error.retry_after or 0.0) + random.uniform(backoff / 2, backoff)  # noqa: S311 - no secret
        self._tries += 1
        self._connection_losses += isinstance(error, BrokeOff)
        spent = self._tries > self._retries or self._connection_losses > MAX_CONNECTION_LOSSES or pause >= self.left
        if spent or not error.retryable:
            raise error
        return pause
