"""PredictStream: one picture after another, in a new stream where the last one broke off."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, suppress
from typing import Any, TypeVar, cast

import grpc

from facet.errors import BrokeOff, FacetError, TimedOut, error_for
from facet.feeds import AsyncFeed, Feed
from facet.grpc_errors import failure
from facet.retries import GRACE, RetryPolicy
from protos import infer_pb2

TOO_LATE = ("DEADLINE_EXCEEDED", "no answer in time; allow more time or send less")
ENDED_EARLY = ("NOT_READY", "the stream ended before all was answered; try again in a second")

Answer = TypeVar("Answer")
Read = Callable[[infer_pb2.InferResults], Answer]


def call_metadata(request_id: str, key: str | None) -> tuple[tuple[str, str], ...]:
    """Give what goes with a call beside its message."""
    return (("x-request-id", request_id), *([("x-api-key", key)] if key else []))


def answers(
    stub: Any,
    requests: Iterator[infer_pb2.Image],
    read: Read[Answer],
    seconds: float,
    retries: int,
    key: str | None = None,
) -> Iterator[Answer | FacetError]:
    """Give each picture its answer, or its error, in their order.

    When a worker is replaced, lost or busy, a new stream goes on from the first unanswered picture, which has
    so many `seconds` and `retries` from then on. Raises FacetError when the service stays away, and what `requests`
    raises, after the answers to what came before.
    """
    feed, policy = Feed(requests), None
    try:
        while feed.wait():
            try:
                for answer in _one_stream(stub, feed, read, seconds, key):
                    policy = None
                    yield answer
            except FacetError as error:
                policy = policy or RetryPolicy(seconds, retries)
                try:
                    time.sleep(policy.pause(error))
                except (BrokeOff, TimedOut):  # it may be this picture: the next one is another matter
                    feed.answered()
                    policy = None
                    yield error
    finally:
        feed.close()
    feed.raise_fault()


def _one_stream(
    stub: Any, feed: Feed, read: Read[Answer], seconds: float, key: str | None
) -> Iterator[Answer | FacetError]:
    """Answer until all is answered. gRPC empties the outbox in a thread of its own."""
    request_id = str(uuid.uuid4())
    outbox = feed.outbox()
    call = stub.PredictStream(outbox, metadata=call_metadata(request_id, key))
    try:
        while feed.wait():
            entry = _entry(_next(call, seconds, request_id), read, request_id)
            feed.answered()
            yield entry
        with suppress(FacetError):  # all is answered, however the stream ends
            _next(call, seconds, request_id)
    finally:
        call.cancel()


def _next(call: Any, seconds: float, request_id: str) -> infer_pb2.InferResults:
    """Wait for the answer to the oldest picture, which its worker has begun to examine by now."""
    late = threading.Event()

    def give_up() -> None:
        late.set()
        call.cancel()

    timer = threading.Timer(seconds + GRACE, give_up)
    timer.start()
    try:
        answer: infer_pb2.InferResults | None = next(call, None)
    except grpc.RpcError as error:
        raise error_for(*TOO_LATE, request_id) if late.is_set() else failure(error, request_id) from error
    finally:
        timer.cancel()
    if answer is None:
        raise error_for(*ENDED_EARLY, request_id)
    return answer


async def async_answers(
    stub: Any,
    requests: AsyncIterator[infer_pb2.Image],
    read: Read[Answer],
    seconds: float,
    retries: int,
    key: str | None = None,
) -> AsyncIterator[Answer | FacetError]:
    """Do what `answers` does, for coroutines."""
    feed, policy = AsyncFeed(requests), None
    try:
        while await feed.wait():
            try:
                async with aclosing(_one_async_stream(stub, feed, read, seconds, key)) as stream:
                    async for answer in stream:
                        policy = None
                        yield answer
            except FacetError as error:
                policy = policy or RetryPolicy(seconds, retries)
                try:
                    await asyncio.sleep(policy.pause(error))
                except (BrokeOff, TimedOut):
                    await feed.answered()
                    policy = None
                    yield error
    finally:
        await feed.close()
    feed.raise_fault()


async def _one_async_stream(
    stub: Any, feed: AsyncFeed, read: Read[Answer], seconds: float, key: str | None
) -> AsyncGenerator[Answer | FacetError]:
    request_id = str(uuid.uuid4())
    call = stub.PredictStream(feed.outbox(), metadata=call_metadata(request_id, key))
    try:
        while await feed.wait():
            entry = _entry(await _async_next(call, seconds, request_id), read, request_id)
            await feed.answered()
            yield entry
        with suppress(FacetError):
            await _async_next(call, seconds, request_id)
    finally:
        call.cancel()


async def _async_next(call: Any, seconds: float, request_id: str) -> infer_pb2.InferResults:
    try:
        async with asyncio.timeout(seconds + GRACE):
            answer = await call.read()
    except TimeoutError as error:
        raise error_for(*TOO_LATE, request_id) from error
    except grpc.RpcError as error:
        raise failure(error, request_id) from error
    if answer is grpc.aio.EOF:
        raise error_for(*ENDED_EARLY, request_id)
    return cast("infer_pb2.InferResults", answer)


def _entry(answer: infer_pb2.InferResults, read: Read[Answer], request_id: str) -> Answer | FacetError:
    """Read an answer, or the error in its place. Raises what is worth another try: a worker busy, or not ready."""
    if not answer.message:
        return read(answer)
    error = error_for(answer.code, answer.message, request_id)
    if error.retryable:
        raise error
    return error
