"""Between the HTTP clients' arguments and results and httpx: requests, answers and errors."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import httpx

from facet.errors import BrokeOff, FacetError, ServiceUnavailable, TimedOut, WrongAddress, error_for
from facet.messages import detection_from_json
from facet.results import Annotated, Detection, Health
from facet.retries import GRACE

DEFAULT_URL = "http://localhost:8080"
HEALTH_PATHS = ("/healthz", "/readyz")
# What a status means without a code, which comes from a proxy.
BY_STATUS: dict[int, str] = {
    HTTPStatus.SERVICE_UNAVAILABLE: "NOT_READY",
    HTTPStatus.GATEWAY_TIMEOUT: "DEADLINE_EXCEEDED",
}


def connection_settings(url: str, key: str | None) -> dict[str, Any]:
    """Return the arguments of an httpx client. Raises WrongAddress."""
    try:
        base = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise WrongAddress(f"{url!r} is not an address: {error}") from error
    if base.scheme not in ("http", "https") or not base.host:
        raise WrongAddress(f"{url!r} is not an address; it must be like {DEFAULT_URL}")
    headers = {"X-API-Key": key} if key else {}
    return {"base_url": base, "headers": headers, "limits": httpx.Limits(max_connections=None)}


def request_settings(options: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Return the options where the service expects them, and the time that is left."""
    given = {name: value for name, value in options.items() if value is not None}
    kind = given.pop("format", "jpeg")
    return {
        "params": given,
        "headers": {
            "Content-Type": "application/octet-stream",
            "Accept": f"image/{kind}, application/json",
            "X-Request-Timeout": f"{max(seconds, 0.001):.3f}",
        },
        "timeout": seconds + GRACE,
    }


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn what httpx raises into a FacetError. Every request may be repeated, so a lost connection is retryable."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise ServiceUnavailable(
            "UNREACHABLE", f"{error.request.url.copy_with(path='/')} cannot be reached: {error}"
        ) from error
    except (httpx.TimeoutException, TimeoutError) as error:
        raise TimedOut("DEADLINE_EXCEEDED", "no answer in time; allow more time or send a smaller image") from error
    except httpx.TransportError as error:
        raise BrokeOff("BROKE_OFF", f"the connection was lost: {error}") from error
    except httpx.RequestError as error:  # a body that does not match its headers
        raise FacetError("UNEXPECTED_ANSWER", f"the answer of {error.request.url} cannot be read: {error}") from error


def check(response: httpx.Response) -> httpx.Response:
    """Return the response if its status is 200. Raises FacetError."""
    if response.status_code == HTTPStatus.OK:
        return response
    try:
        answer = response.json()
        code, message = str(answer["code"]), str(answer["message"])
    except (ValueError, LookupError, TypeError):
        code = BY_STATUS.get(response.status_code, "UNEXPECTED_ANSWER")
        message = f"{response.url} answered {response.status_code} {response.reason_phrase}; is it a facet?"
        answer = {}
    raise error_for(code, message, str(answer.get("requestId", "")), _retry_after(response))


def _retry_after(response: httpx.Response) -> float:
    """Return the seconds to wait; 0 for a date or an invalid value."""
    try:
        seconds = float(response.headers.get("Retry-After", 0))
    except ValueError:
        return 0.0
    return seconds if math.isfinite(seconds) and seconds >= 0 else 0.0


def read_detection(response: httpx.Response) -> Detection:
    """Read an answer of /predict. Raises FacetError."""
    try:
        return detection_from_json(response.json())
    except ValueError as error:
        raise FacetError("UNEXPECTED_ANSWER", f"{response.url} did not answer JSON; is it a facet?") from error


def read_annotated(response: httpx.Response) -> Annotated:
    """Read an answer of /annotate. Raises FacetError."""
    count = response.headers.get("X-Face-Count", "")
    if not count.isdecimal():
        raise FacetError("UNEXPECTED_ANSWER", f"{response.url} did not answer a drawn image; is it a facet?")
    return Annotated(response.content, int(count))


def read_health(began: float, alive: httpx.Response, ready: httpx.Response) -> Health:
    try:
        check(alive)
        check(ready)
    except FacetError as error:
        return Health.since(began, error.message, alive=alive.status_code == HTTPStatus.OK)
    return Health.since(began)
