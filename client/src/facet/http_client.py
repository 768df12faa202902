"""The clients over HTTP."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Unpack

import httpx

from facet import http_messages
from facet.closing import AsyncClosing, Closing
from facet.errors import BrokeOff, FacetError
from facet.http_messages import DEFAULT_URL
from facet.messages import DetectOptions, DrawOptions, ImageSource, read_image
from facet.results import Annotated, Detection, Health
from facet.retries import DEFAULT_RETRIES, DEFAULT_TIMEOUT, GRACE, HEALTH_TIMEOUT, RetryPolicy


class Client(Closing):
    """A client over HTTP. Threads may share it.

    A call takes at most about `timeout` seconds. Within them it is tried again up to `retries` times while the service
    is busy, not ready or away. `key` is an API key, for a service that requires one. The methods raise FacetError, or
    OSError for an image that cannot be read.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        retries: int = DEFAULT_RETRIES,
        key: str | None = None,
    ) -> None:
        self._http = httpx.Client(**http_messages.connection_settings(url, key))
        self._timeout, self._retries = timeout, retries

    def close(self) -> None:
        self._http.close()

    def detect(self, image: ImageSource, **options: Unpack[DetectOptions]) -> Detection:
        return http_messages.read_detection(self._post("/predict", image, options))

    def annotate(self, image: ImageSource, **options: Unpack[DrawOptions]) -> Annotated:
        """Return the image with its faces drawn or blurred."""
        return http_messages.read_annotated(self._post("/annotate", image, options))

    def health(self) -> Health:
        """Return whether the service is there; raises nothing when it is not."""
        began = time.monotonic()
        try:
            with http_messages.translated_errors():
                answers = [self._http.get(path, timeout=HEALTH_TIMEOUT) for path in http_messages.HEALTH_PATHS]
        except FacetError as error:
            return Health.failed(began, error)
        return http_messages.read_health(began, *answers)

    def _post(self, path: str, image: ImageSource, options: Mapping[str, Any]) -> httpx.Response:
        policy, content = RetryPolicy(self._timeout, self._retries), read_image(image)
        while True:
            try:
                return http_messages.check(self._answer(path, content, options, policy.left))
            except FacetError as error:
                time.sleep(policy.next_delay(error))

    def _answer(self, path: str, content: bytes, options: Mapping[str, Any], seconds: float) -> httpx.Response:
        due = time.monotonic() + seconds + GRACE  # httpx limits each read, but not the whole answer
        settings = http_messages.request_settings(options, seconds)
        with (
            http_messages.translated_errors(),
            self._http.stream("POST", path, content=content, **settings) as response,
        ):
            body = bytearray()
            for chunk in response.iter_raw():
                if time.monotonic() > due:
                    raise httpx.ReadTimeout("the answer trickles")
                body += chunk
            return httpx.Response(
                response.status_code,
                headers=response.headers,
                content=bytes(body),
                extensions=response.extensions,
                request=response.request,
            )


class AsyncClient(AsyncClosing):
    """A client over HTTP for coroutines; see `Client`."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        retries: int = DEFAULT_RETRIES,
        key: str | None = None,
    ) -> None:
        self._http = httpx.AsyncClient(**http_messages.connection_settings(url, key))
        self._url, self._key = url, key
        self._timeout, self._retries = timeout, retries

    async def close(self) -> None:
        await self._http.aclose()

    async def detect(self, image: ImageSource, **options: Unpack[DetectOptions]) -> Detection:
        return http_messages.read_detection(await self._post("/predict", image, options))

    async def annotate(self, image: ImageSource, **options: Unpack[DrawOptions]) -> Annotated:
        return http_messages.read_annotated(await self._post("/annotate", image, options))

    async def health(self) -> Health:
        began = time.monotonic()
        try:
            with http_messages.translated_errors():
                answers = [await self._http.get(path, timeout=HEALTH_TIMEOUT) for path in http_messages.HEALTH_PATHS]
        except FacetError as error:
            return Health.failed(began, error)
        return http_messages.read_health(began, *answers)

    async def _post(self, path: str, image: ImageSource, options: Mapping[str, Any]) -> httpx.Response:
        policy, content = RetryPolicy(self._timeout, self._retries), await asyncio.to_thread(read_image, image)
        answer = self._answer
        while True:
            try:
                return http_messages.check(await answer(path, content, options, policy.left))
            except FacetError as error:
                await asyncio.sleep(policy.next_delay(error))
                if isinstance(error, BrokeOff):
                    answer = self._answer_in_thread

    async def _answer(self, path: str, content: bytes, options: Mapping[str, Any], seconds: float) -> httpx.Response:
        with http_messages.translated_errors():
            async with asyncio.timeout(seconds + GRACE):
                return await self._http.post(path, content=content, **http_messages.request_settings(options, seconds))

    async def _answer_in_thread(
        self, path: str, content: bytes, options: Mapping[str, Any], seconds: float
    ) -> httpx.Response:
        """Send an image again whose answer may have been lost.

        When a server answers early and closes the connection, as Envoy does for an image above the limit, asyncio fails
        on the rest of the upload and drops the answer. A blocking socket still reads it.
        """
        with Client(self._url, key=self._key) as client:
            return await asyncio.to_thread(client._answer, path, content, options, seconds)  # noqa: SLF001 - of this module
