"""What the clients share when they ask for the service's health."""

from __future__ import annotations

import time

from facet.errors import FacetError
from facet.results import Health

HEALTH_SECONDS = 5.0
HEALTH_PATHS = ("/healthz", "/readyz")
NO_ANSWER = ("UNREACHABLE", "BROKE_OFF", "DEADLINE_EXCEEDED")


def health(began: float, message: str = "", *, alive: bool = True) -> Health:
    """Return the health of a service that was asked at `began`; `message` says what is wrong with it."""
    return Health(alive, ready=not message, milliseconds=1000 * (time.monotonic() - began), message=message)


def no_health(began: float, error: FacetError) -> Health:
    """Return the health of a service that did not report it."""
    return health(began, error.message, alive=error.code not in NO_ANSWER)
