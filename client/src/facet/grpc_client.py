"""The clients over gRPC."""

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Unpack
from urllib.parse import urlsplit

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from facet import messages
from facet.closing import AsyncClosing, Closing
from facet.errors import FacetError, WrongAddress
from facet.event_loop import iterate, iterate_in_thread, outcome
from facet.grpc_errors import LOST_UNARY, failure
from facet.messages import DetectOptions, DrawOptions, ImageSource, Options
from facet.results import Annotated, Detection, Health
from facet.retries import DEFAULT_RETRIES, DEFAULT_TIMEOUT, HEALTH_TIMEOUT, RetryPolicy
from facet.streams import Answer, Read, answers
from protos import infer_pb2, infer_pb2_grpc

DEFAULT_ADDRESS = "localhost:8080"
REQUEST_ID = "x-request-id"
HEALTH_CHECK = health_pb2.HealthCheckRequest(service="Inference")
PORTS = {"http": 80, "https": 443}
CHANNEL_OPTIONS = [
    # A drawn image may exceed gRPC's default limit of 4 MiB.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Reconnect within a second after the service was away; gRPC's default is up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A stream has no deadline: this notices a machine that is gone.
    ("grpc.keepalive_time_ms", 20000),
    ("grpc.keepalive_timeout_ms", 10000),
]


class _GrpcClient:
    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        retries: int = DEFAULT_RETRIES,
        key: str | None = None,
    ) -> None:
        target, secure = _target(address)
        self._channel = (
            grpc.secure_channel(target, grpc.ssl_channel_credentials(), CHANNEL_OPTIONS)
            if secure
            else grpc.insecure_channel(target, CHANNEL_OPTIONS)
        )
        self._inference: Any = infer_pb2_grpc.InferenceStub(self._channel)
        self._health: Any = health_pb2_grpc.HealthStub(self._channel)
        self._timeout, self._retries, self._key = timeout, retries, key

    def _stream(
        self,
        images: AsyncIterable[ImageSource] | Iterable[ImageSource],
        make_request: Callable[[ImageSource], infer_pb2.Image],
        read: Read[Answer],
    ) -> AsyncGenerator[Answer | FacetError]:
        """Send one image after another; see `answers`. What may block runs in a thread."""
        requests = (
            _requests(images, make_request)
            if isinstance(images, AsyncIterable)
            else iterate_in_thread(map(make_request, images))
        )

        def start(requests: Any, request_id: str) -> Any:
            return self._inference.PredictStream(requests, metadata=self._metadata(request_id))

        return answers(start, requests, read, self._timeout, self._retries)

    def _metadata(self, request_id: str) -> tuple[tuple[str, str], ...]:
        return ((REQUEST_ID, request_id), *([("x-api-key", self._key)] if self._key else []))


class AsyncGrpcClient(_GrpcClient, AsyncClosing):
    """A client over gRPC for coroutines; see `GrpcClient`."""

    async def close(self) -> None:
        self._channel.close()

    async def detect(self, image: ImageSource, **options: Unpack[DetectOptions]) -> Detection:
        request = await asyncio.to_thread(messages.request, image, **options)
        return await self._predict(request, messages.detection)

    async def annotate(self, image: ImageSource, **options: Unpack[DrawOptions]) -> Annotated:
        request = await asyncio.to_thread(messages.drawn_request, image, **options)
        return await self._predict(request, messages.annotated)

    def stream(
        self, images: AsyncIterable[ImageSource] | Iterable[ImageSource], **options: Unpack[Options]
    ) -> AsyncIterator[Detection | FacetError]:
        return self._stream(images, partial(messages.request, **options), messages.detection)

    def annotate_stream(
        self, images: AsyncIterable[ImageSource] | Iterable[ImageSource], **options: Unpack[DrawOptions]
    ) -> AsyncIterator[Annotated | FacetError]:
        return self._stream(images, partial(messages.drawn_request, **options), messages.annotated)

    async def health(self) -> Health:
        began = time.monotonic()
        try:
            return _health(began, await outcome(self._health.Check.future(HEALTH_CHECK, timeout=HEALTH_TIMEOUT)))
        except grpc.RpcError as error:
            return Health.failed(began, failure(error, ""))

    async def _predict(self, image: infer_pb2.Image, read: Read[Answer]) -> Answer:
        policy, metadata = RetryPolicy(self._timeout, self._retries), self._metadata(str(uuid.uuid4()))
        while True:
            try:
                return read(
                    await outcome(self._inference.Predict.future(image, timeout=policy.left, metadata=metadata))
                )
            except (grpc.RpcError, FacetError) as error:
                await asyncio.sleep(policy.next_delay(_facet_error(error, metadata)))


class GrpcClient(_GrpcClient, Closing):
    """A client over gRPC. Threads may share it.

    `address` is host:port or a URL; https means TLS. A call takes at most `timeout` seconds. Within them it is tried
    again up to `retries` times while the service is busy, not ready or away. `key` is an API key, for a service that
    requires one. The methods raise FacetError, or OSError for an image that cannot be read.
    """

    def close(self) -> None:
        self._channel.close()

    def detect(self, image: ImageSource, **options: Unpack[DetectOptions]) -> Detection:
        return self._predict(messages.request(image, **options), messages.detection)

    def annotate(self, image: ImageSource, **options: Unpack[DrawOptions]) -> Annotated:
        """Return the image with its faces drawn or blurred, and the faces."""
        return self._predict(messages.drawn_request(image, **options), messages.annotated)

    def stream(self, images: Iterable[ImageSource], **options: Unpack[Options]) -> Iterator[Detection | FacetError]:
        """Find the faces in one image after another; yield a detection or an error for each, in order.

        A thread takes the images: two at first, then one whenever one is answered. Raises FacetError when the service
        stays away, and OSError for an image that cannot be read.
        """
        return iterate(self._stream(images, partial(messages.request, **options), messages.detection))

    def annotate_stream(
        self, images: Iterable[ImageSource], **options: Unpack[DrawOptions]
    ) -> Iterator[Annotated | FacetError]:
        """Return one image after another with its faces drawn or blurred; see `stream`."""
        return iterate(self._stream(images, partial(messages.drawn_request, **options), messages.annotated))

    def health(self) -> Health:
        """Return whether the service is there; raises nothing when it is not."""
        began = time.monotonic()
        try:
            return _health(began, self._health.Check(HEALTH_CHECK, timeout=HEALTH_TIMEOUT))
        except grpc.RpcError as error:
            return Health.failed(began, failure(error, ""))

    def _predict(self, image: infer_pb2.Image, read: Read[Answer]) -> Answer:
        policy, metadata = RetryPolicy(self._timeout, self._retries), self._metadata(str(uuid.uuid4()))
        while True:
            try:
                return read(self._inference.Predict(image, timeout=policy.left, metadata=metadata))
            except (grpc.RpcError, FacetError) as error:
                time.sleep(policy.next_delay(_facet_error(error, metadata)))


def _facet_error(error: grpc.RpcError | FacetError, metadata: Sequence[tuple[str, str]]) -> FacetError:
    """Return the error of a call, or that of its answer: an older worker cannot draw."""
    return error if isinstance(error, FacetError) else failure(error, dict(metadata)[REQUEST_ID], LOST_UNARY)


def _health(began: float, answer: health_pb2.HealthCheckResponse) -> Health:
    ready = answer.status == health_pb2.HealthCheckResponse.SERVING
    return Health.since(began, "" if ready else "no worker serves yet")


async def _requests(
    images: AsyncIterable[ImageSource], make_request: Callable[[ImageSource], infer_pb2.Image]
) -> AsyncGenerator[infer_pb2.Image]:
    async for image in images:
        yield await asyncio.to_thread(make_request, image)


def _target(address: str) -> tuple[str, bool]:
    """Return gRPC's target for an address, and whether it uses TLS. Raises WrongAddress."""
    if "://" not in address:
        return address, False
    try:
        parts = urlsplit(address)
        usual = PORTS[parts.scheme]
        host, port = parts.hostname, parts.port or usual
    except (ValueError, LookupError):  # an invalid port, another scheme
        host = None
    if not host:
        raise WrongAddress(f"{address!r} is not an address; it must be like {DEFAULT_ADDRESS}")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}", parts.scheme == "https"
