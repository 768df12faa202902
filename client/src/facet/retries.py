"""How long a call may take with all its tries, and how long it waits between them."""

import random
import time

from facet.errors import BrokeOff, FacetError

DEFAULT_TIMEOUT = 15.0  # the service's own deadline
DEFAULT_RETRIES = 5
HEALTH_TIMEOUT = 5.0
GRACE = 1.0  # seconds after the deadline in which the service may report it: its own error says more than ours
INITIAL_DELAY = 0.1  # seconds; doubles with each try
MAX_DELAY = 5.0
MAX_CONNECTION_LOSSES = 1  # an image that kills its worker must not kill them all


class RetryPolicy:
    def __init__(self, timeout: float, retries: int) -> None:
        self._due = time.monotonic() + timeout
        self._retries = retries
        self._tries = 0
        self._connection_losses = 0

    @property
    def left(self) -> float:
        """Seconds until the call's deadline."""
        return max(0.0, self._due - time.monotonic())

    def next_delay(self, error: FacetError) -> float:
        """Return the seconds to wait before the next try; raise `error` when there is to be no other.

        The delay is at least what the service asks for. Jitter keeps rejected callers from returning together.
        """
        backoff = min(MAX_DELAY, INITIAL_DELAY * 2**self._tries)
        delay = (error.retry_after or 0.0) + random.uniform(backoff / 2, backoff)  # noqa: S311 - no secret
        self._tries += 1
        self._connection_losses += isinstance(error, BrokeOff)
        spent = self._tries > self._retries or self._connection_losses > MAX_CONNECTION_LOSSES or delay >= self.left
        if spent or not error.retryable:
            raise error
        return delay
