"""The clients over gRPC."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any, Self, Unpack
from urllib.parse import urlsplit

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from facet.errors import FacetError, ServiceUnavailable, WrongAddress
from facet.grpc_errors import LOST_ALONE, failure
from facet.health import HEALTH_SECONDS, health, no_health
from facet.messages import (
    DetectOptions,
    DrawOptions,
    ImageSource,
    Options,
    annotated,
    detection,
    drawn_request,
    request,
)
from facet.results import Annotated, Detection, Health
from facet.retries import DEFAULT_RETRIES, DEFAULT_TIMEOUT, RetryPolicy
from facet.streams import Answer, Read, answers, async_answers, call_metadata
from protos import infer_pb2, infer_pb2_grpc

DEFAULT_ADDRESS = "localhost:8080"
PORTS = {"http": 80, "https": 443}
CHANNEL_OPTIONS = [
    # A drawn picture may be longer than the 4 MiB that gRPC allows unless it is told otherwise.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # When the service has been away, come back within a second and not within two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A stream has no deadline: a service whose machine is gone is noticed by this.
    ("grpc.keepalive_time_ms", 20000),
    ("grpc.keepalive_timeout_ms", 10000),
]


class GrpcClient:
    """Asks over gRPC; `address` is host:port, or a URL, of which https means TLS. Threads may share it.

    A call takes at most `timeout` seconds with all its tries, of which it makes `retries` more than one while the
    service is busy, not ready or away. `key` is an API key, for a service that asks for one. Its methods raise
    FacetError, or OSError for a picture that cannot be read.
    """

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
        self._inference = infer_pb2_grpc.InferenceStub(self._channel)
        self._health: Any = health_pb2_grpc.HealthStub(self._channel)
        self._timeout, self._retries, self._key = timeout, retries, key

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def detect(self, image: ImageSource, **options: Unpack[DetectOptions]) -> Detection:
        """Find the faces in a picture."""
        return self._predict(request(image, **options), detection)

    def annotate(self, image: ImageSource, **options: Unpack[DrawOptions]) -> Annotated:
        """Give the picture back with its faces drawn or blurred; the faces come along."""
        return self._predict(drawn_request(image, **options), annotated)

    def stream(self, images: Iterable[ImageSource], **options: Unpack[Options]) -> Iterator[Detection | FacetError]:
        """Find the faces in one picture after another; each has its answer or its error, in their order.

        `images` are taken in a thread, two before the first is answered, then one for each that is. Raises FacetError
        when the service stays away, and OSError for a picture that cannot be read.
        """
        requests = (request(image, **options) for image in images)
        return answers(self._inference, requests, detection, self._timeout, self._retries, self._key)

    def annotate_stream(
        self, images: Iterable[ImageSource], **options: Unpack[DrawOptions]
    ) -> Iterator[Annotated | FacetError]:
        """Give one picture after another back with its faces drawn or blurred; see `stream`."""
        requests = (drawn_request(image, **options) for image in images)
        return answers(self._inference, requests, annotated, self._timeout, self._retries, self._key)

    def health(self) -> Health:
        """Ask whether the service is there; it raises nothing when it is not."""
        began = time.monotonic()
        try:
            answer = self._health.Check(health_pb2.HealthCheckRequest(service="Inference"), timeout=HEALTH_SECONDS)
        except grpc.RpcError as error:
            return no_health(began, failure(error, ""))
        return _health(began, answer)

    def _predict(self, image: infer_pb2.Image, read: Read[Answer]) -> Answer:
        policy, request_id = self._policy(), str(uuid.uuid4())
        metadata = call_metadata(request_id, self._key)
        while True:
            try:
                return read(self._inference.Predict(image, timeout=policy.left, metadata=metadata))
            except grpc.RpcError as error:
                time.sleep(policy.pause(failure(error, request_id, LOST_ALONE)))
            except ServiceUnavailable as error:  # it was read, and does not have what it should
                time.sleep(policy.pause(error))

    def _policy(self) -> RetryPolicy:
        return RetryPolicy(self._timeout, self._retries)


class AsyncGrpcClient:
    """Asks over gRPC from a coroutine; see `GrpcClient`."""

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
            grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(), CHANNEL_OPTIONS)
            if secure
            else grpc.aio.insecure_channel(target, CHANNEL_OPTIONS)
        )
        self._inference = infer_pb2_grpc.InferenceStub(self._channel)
        self._health: Any = health_pb2_grpc.HealthStub(self._channel)
        self._timeout, self._retries, self._key = timeout, retries, key

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def detect(self, image: ImageSource, **options: Unpack[DetectOptions]) -> Detection:
        """Find the faces in a picture."""
        return await self._predict(await asyncio.to_thread(request, image, **options), detection)

    async def annotate(self, image: ImageSource, **options: Unpack[DrawOptions]) -> Annotated:
        """Give the picture back with its faces drawn or blurred; the faces come along."""
        return await self._predict(await asyncio.to_thread(drawn_request, image, **options), annotated)

    def stream(
        self, images: AsyncIterable[ImageSource] | Iterable[ImageSource], **options: Unpack[Options]
    ) -> AsyncIterator[Detection | FacetError]:
        """Find the faces in one picture after another; see `GrpcClient.stream`."""
        requests = (request(image, **options) async for image in _each(images))
        return async_answers(self._inference, requests, detection, self._timeout, self._retries, self._key)

    def annotate_stream(
        self, images: AsyncIterable[ImageSource] | Iterable[ImageSource], **options: Unpack[DrawOptions]
    ) -> AsyncIterator[Annotated | FacetError]:
        """Give one picture after another back with its faces drawn or blurred; see `GrpcClient.stream`."""
        requests = (drawn_request(image, **options) async for image in _each(images))
        return async_answers(self._inference, requests, annotated, self._timeout, self._retries, self._key)

    async def health(self) -> Health:
        """Ask whether the service is there; it raises nothing when it is not."""
        began = time.monotonic()
        try:
            ask = health_pb2.HealthCheckRequest(service="Inference")
            answer = await self._health.Check(ask, timeout=HEALTH_SECONDS)
        except grpc.RpcError as error:
            return no_health(began, failure(error, ""))
        return _health(began, answer)

    async def _predict(self, image: infer_pb2.Image, read: Read[Answer]) -> Answer:
        policy, request_id = self._policy(), str(uuid.uuid4())
        metadata = call_metadata(request_id, self._key)
        while True:
            try:
                return read(await self._inference.Predict(image, timeout=policy.left, metadata=metadata))
            except grpc.RpcError as error:
                await asyncio.sleep(policy.pause(failure(error, request_id, LOST_ALONE)))
            except ServiceUnavailable as error:
                await asyncio.sleep(policy.pause(error))

    def _policy(self) -> RetryPolicy:
        return RetryPolicy(self._timeout, self._retries)


def _target(address: str) -> tuple[str, bool]:
    """Give gRPC's target for an address, and whether it wants TLS. Raises WrongAddress."""
    if "://" not in address:
        return address, False
    try:
        parts = urlsplit(address)
        usual = PORTS[parts.scheme]
        host, port = parts.hostname, parts.port or usual
    except (ValueError, LookupError):  # a port that is none, another scheme
        host = None
    if not host:
        raise WrongAddress(f"{address!r} is no address; it must be like {DEFAULT_ADDRESS}")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}", parts.scheme == "https"


async def _each(images: AsyncIterable[ImageSource] | Iterable[ImageSource]) -> AsyncIterator[ImageSource]:
    if isinstance(images, AsyncIterable):
        async for image in images:
            yield image
    else:
        for image in images:
            yield image


def _health(began: float, answer: health_pb2.HealthCheckResponse) -> Health:
    ready = answer.status == health_pb2.HealthCheckResponse.SERVING
    return health(began, "" if ready else "no worker serves yet")
