"""What the clients have in common when they ask for the service's health."""

from __future__ import annotations

import time

from facet.errors import FacetError
from facet.results import Health

HEALTH_SECONDS = 5.0
NO_ANSWER = ("UNREACHABLE", "BROKE_OFF", "DEADLINE_EXCEEDED")


def health(began: float, message: str = "", *, alive: bool = True) -> Health:
    """Report on a service that was asked at `began`, and on what is wrong with it."""
    return Health(alive, ready=not message, milliseconds=1000 * (time.monotonic() - began), message=message)


def no_health(began: float, error: FacetError) -> Health:
    """Report on a service that failed to say how it is."""
    return health(began, error.message, alive=error.code not in NO_ANSWER)
