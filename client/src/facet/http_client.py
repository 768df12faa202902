"""The clients over HTTP."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Self, Unpack, cast

import httpx

from facet.errors import BrokeOff, FacetError, ServiceUnavailable, TimedOut, WrongAddress, error_for
from facet.health import HEALTH_SECONDS, health, no_health
from facet.messages import DetectOptions, DrawOptions, ImageSource, detection_from_json, read_image
from facet.results import Annotated, Detection, Health
from facet.retries import DEFAULT_RETRIES, DEFAULT_TIMEOUT, GRACE, RetryPolicy

DEFAULT_URL = "http://localhost:8080"
# What a status means when its sender is no facet and gives no code.
BY_STATUS: dict[int, str] = {
    HTTPStatus.SERVICE_UNAVAILABLE: "NOT_READY",
    HTTPStatus.GATEWAY_TIMEOUT: "DEADLINE_EXCEEDED",
}


class Client:
    """Asks over HTTP. It may be used by several threads at a time.

    A call takes at most about `timeout` seconds with all its tries, of which it makes `retries` more than one while the
    service is busy, not ready or away. `key` is an API key, for a service that asks for one. Its methods raise
    FacetError, or OSError for a picture that cannot be read.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        retries: int = DEFAULT_RETRIES,
        key: str | None = None,
    ) -> None:
        self._http = httpx.Client(
            base_url=_url(url), headers=_key_header(key), limits=httpx.Limits(max_connections=None)
        )
        self._timeout, self._retries = timeout, retries

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def detect(self, image: ImageSource, **options: Unpack[DetectOptions]) -> Detection:
        """Find the faces in a picture."""
        return _detection(self._post("/predict", image, options))

    def annotate(self, image: ImageSource, **options: Unpack[DrawOptions]) -> Annotated:
        """Give the picture back with its faces drawn or blurred."""
        return _annotated(self._post("/annotate", image, options))

    def health(self) -> Health:
        """Ask whether the service is there; it raises nothing when it is not."""
        began = time.monotonic()
        try:
            with _in_our_words():
                answers = [self._http.get(path, timeout=HEALTH_SECONDS) for path in ("/healthz", "/readyz")]
        except FacetError as error:
            return no_health(began, error)
        return _health(began, *answers)

    def _post(self, path: str, image: ImageSource, options: Mapping[str, Any]) -> httpx.Response:
        policy, content = RetryPolicy(self._timeout, self._retries), read_image(image)
        while True:
            try:
                return _checked(self._answer(path, content, options, policy.left))
            except FacetError as error:
                time.sleep(policy.pause(error))

    def _answer(self, path: str, content: bytes, options: Mapping[str, Any], seconds: float) -> httpx.Response:
        due = time.monotonic() + seconds + GRACE
        request = _request(options, seconds)
        with _in_our_words(), self._http.stream("POST", path, content=content, **request) as response:
            response.stream = _Until(due, cast("httpx.SyncByteStream", response.stream))
            response.read()
            return response


class AsyncClient:
    """Asks over HTTP from a coroutine; see `Client`."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        retries: int = DEFAULT_RETRIES,
        key: str | None = None,
    ) -> None:
        self._http = httpx.AsyncClient(
            base_url=_url(url), headers=_key_header(key), limits=httpx.Limits(max_connections=None)
        )
        self._timeout, self._retries = timeout, retries

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def detect(self, image: ImageSource, **options: Unpack[DetectOptions]) -> Detection:
        """Find the faces in a picture."""
        return _detection(await self._post("/predict", image, options))

    async def annotate(self, image: ImageSource, **options: Unpack[DrawOptions]) -> Annotated:
        """Give the picture back with its faces drawn or blurred."""
        return _annotated(await self._post("/annotate", image, options))

    async def health(self) -> Health:
        """Ask whether the service is there; it raises nothing when it is not."""
        began = time.monotonic()
        try:
            with _in_our_words():
                answers = [await self._http.get(path, timeout=HEALTH_SECONDS) for path in ("/healthz", "/readyz")]
        except FacetError as error:
            return no_health(began, error)
        return _health(began, *answers)

    async def _post(self, path: str, image: ImageSource, options: Mapping[str, Any]) -> httpx.Response:
        policy, content = RetryPolicy(self._timeout, self._retries), await asyncio.to_thread(read_image, image)
        while True:
            try:
                return _checked(await self._answer(path, content, options, policy.left))
            except FacetError as error:
                await asyncio.sleep(policy.pause(error))

    async def _answer(self, path: str, content: bytes, options: Mapping[str, Any], seconds: float) -> httpx.Response:
        with _in_our_words():
            async with asyncio.timeout(seconds + GRACE):
                return await self._http.post(path, content=content, **_request(options, seconds))


class _Until(httpx.SyncByteStream):
    """An answer's body with a limit for all of it; httpx has one for each read, which an answer that trickles keeps."""

    def __init__(self, due: float, body: httpx.SyncByteStream) -> None:
        self._due = due
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._body:
            if time.monotonic() > self._due:
                raise httpx.ReadTimeout("the answer trickles")
            yield chunk

    def close(self) -> None:
        """Close the connection, or give it back."""
        self._body.close()


def _url(url: str) -> httpx.URL:
    """Look at an address before it is used. Raises WrongAddress."""
    try:
        found = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise WrongAddress(f"{url!r} is no address: {error}") from error
    if found.scheme not in ("http", "https") or not found.host:
        raise WrongAddress(f"{url!r} is no address; it must be like {DEFAULT_URL}")
    return found


def _key_header(key: str | None) -> dict[str, str]:
    return {"X-API-Key": key} if key else {}


def _request(options: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Put the options where the service looks for them, and say how long its answer is waited for."""
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
def _in_our_words() -> Iterator[None]:
    """Turn what httpx raises into errors of ours. To be repeated is harmless for all that is asked here."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise ServiceUnavailable(
            "UNREACHABLE", f"{error.request.url.copy_with(path='/')} cannot be reached: {error}"
        ) from error
    except (httpx.TimeoutException, TimeoutError) as error:
        raise TimedOut("DEADLINE_EXCEEDED", "no answer in time; allow more time or send less") from error
    except httpx.TransportError as error:
        raise BrokeOff("BROKE_OFF", f"the connection broke off: {error}") from error
    except httpx.RequestError as error:  # a body that is not what its headers say
        raise FacetError("UNEXPECTED_ANSWER", f"{error.request.url} answered nonsense: {error}") from error


def _checked(response: httpx.Response) -> httpx.Response:
    """Give an answer back that is one. Raises FacetError."""
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
    """Give the seconds to wait; 0 for a date, and for what makes no sense."""
    try:
        seconds = float(response.headers.get("Retry-After", 0))
    except ValueError:
        return 0.0
    return seconds if math.isfinite(seconds) and seconds >= 0 else 0.0


def _detection(response: httpx.Response) -> Detection:
    try:
        return detection_from_json(response.json())
    except ValueError as error:
        raise FacetError("UNEXPECTED_ANSWER", f"{response.url} answered no JSON; is it a facet?") from error


def _annotated(response: httpx.Response) -> Annotated:
    count = response.headers.get("X-Face-Count", "")
    if not count.isdecimal():
        raise FacetError("UNEXPECTED_ANSWER", f"{response.url} answered no drawn picture; is it a facet?")
    return Annotated(response.content, int(count))


def _health(began: float, alive: httpx.Response, ready: httpx.Response) -> Health:
    try:
        _checked(alive)
        _checked(ready)
    except FacetError as error:
        return health(began, error.message, alive=alive.status_code == HTTPStatus.OK)
    return health(began)
