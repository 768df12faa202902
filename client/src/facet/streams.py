"""PredictStream: one picture after another, in a new stream where the last one broke off."""

from __future__ import annotations

import asyncio
import queue
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any, TypeVar

import grpc

from facet.errors import FacetError, ServiceUnavailable, error_for
from facet.grpc_errors import failure
from facet.retries import Patience
from protos import infer_pb2

# One picture is examined while the next is on its way. More would only age: a worker answers them one by one.
AHEAD = 2

Answer = TypeVar("Answer")
Read = Callable[[infer_pb2.InferResults], Answer]


def answers(
    stub: Any, requests: Iterator[infer_pb2.Image], read: Read[Answer], new_patience: Callable[[], Patience]
) -> Iterator[Answer | FacetError]:
    """Give each picture its answer, or its error, in their order.

    The next picture is asked for when it can be sent, so a camera gives its newest. When a worker is replaced, lost
    or busy, a new stream goes on from the first unanswered picture. Raises FacetError when the service stays away.
    """
    unanswered: deque[infer_pb2.Image] = deque()
    patience = new_patience()
    while True:
        request_id = str(uuid.uuid4())
        try:
            for answer in _one_stream(stub, requests, unanswered, request_id):
                patience = new_patience()
                yield _entry(answer, read, request_id)
        except grpc.RpcError as error:
            time.sleep(patience.pause(failure(error, request_id)))
        except ServiceUnavailable as error:
            time.sleep(patience.pause(error))
        else:
            return


def _one_stream(
    stub: Any, requests: Iterator[infer_pb2.Image], unanswered: deque[infer_pb2.Image], request_id: str
) -> Iterator[infer_pb2.InferResults]:
    """Send what is unanswered, then the rest. gRPC empties the outbox in a thread of its own."""
    outbox: queue.SimpleQueue[infer_pb2.Image | None] = queue.SimpleQueue()
    for image in unanswered:
        outbox.put(image)  # again
    call = stub.PredictStream(iter(outbox.get, None), metadata=(("x-request-id", request_id),))
    try:
        while True:
            for image in islice(requests, AHEAD - len(unanswered)):
                unanswered.append(image)
                outbox.put(image)
            if not unanswered:
                break
            answer = next(call)
            _raise_if_passing(answer, request_id)
            unanswered.popleft()
            yield answer
        outbox.put(None)
        with suppress(grpc.RpcError):  # all is answered, however the stream ends
            next(call, None)
    finally:
        outbox.put(None)
        call.cancel()


async def async_answers(
    stub: Any, requests: AsyncIterator[infer_pb2.Image], read: Read[Answer], new_patience: Callable[[], Patience]
) -> AsyncIterator[Answer | FacetError]:
    """Do what `answers` does, for coroutines."""
    unanswered: deque[infer_pb2.Image] = deque()
    patience = new_patience()
    while True:
        request_id = str(uuid.uuid4())
        try:
            async for answer in _one_async_stream(stub, requests, unanswered, request_id):
                patience = new_patience()
                yield _entry(answer, read, request_id)
        except grpc.RpcError as error:
            await asyncio.sleep(patience.pause(failure(error, request_id)))
        except ServiceUnavailable as error:
            await asyncio.sleep(patience.pause(error))
        else:
            return


async def _one_async_stream(
    stub: Any, requests: AsyncIterator[infer_pb2.Image], unanswered: deque[infer_pb2.Image], request_id: str
) -> AsyncIterator[infer_pb2.InferResults]:
    call = stub.PredictStream(metadata=(("x-request-id", request_id),))
    try:
        for image in unanswered:
            await _write(call, image)
        while True:
            while len(unanswered) < AHEAD and (following := await anext(requests, None)):
                unanswered.append(following)
                await _write(call, following)
            if not unanswered:
                break
            answer = await call.read()
            if answer is grpc.aio.EOF:
                raise error_for("UNEXPECTED_ANSWER", "the stream ended before all was answered", request_id)
            _raise_if_passing(answer, request_id)
            unanswered.popleft()
            yield answer
        await call.done_writing()
        with suppress(grpc.RpcError):
            await call.read()
    finally:
        call.cancel()


async def _write(call: Any, image: infer_pb2.Image) -> None:
    """Send a picture; that the stream has ended is told by the next `read`."""
    with suppress(asyncio.InvalidStateError, grpc.RpcError):
        await call.write(image)


def _raise_if_passing(answer: infer_pb2.InferResults, request_id: str) -> None:
    """Let a picture that found its worker busy or not ready be sent again."""
    error = error_for(answer.code, answer.message, request_id)
    if answer.message and error.retryable:
        raise error


def _entry(answer: infer_pb2.InferResults, read: Read[Answer], request_id: str) -> Answer | FacetError:
    if answer.message:
        return error_for(answer.code, answer.message, request_id)
    try:
        return read(answer)
    except ServiceUnavailable as error:
        return error
