"""PredictStream: one image after another; where a stream breaks off, a new one continues."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, suppress
from typing import Any, TypeVar, cast

import grpc

from facet.errors import BrokeOff, FacetError, TimedOut, error_for
from facet.event_loop import iterate_in_thread
from facet.grpc_errors import BODY_TOO_LARGE, TIMED_OUT, failure
from facet.retries import GRACE, RetryPolicy
from facet.window import Window
from protos import infer_pb2

ENDED_EARLY = ("NOT_READY", "the stream ended before all images were answered; try again in a second")

Answer = TypeVar("Answer")
Read = Callable[[infer_pb2.InferResults], Answer]
Start = Callable[[Iterator[infer_pb2.Image], str], Any]
"""Starts a call of PredictStream with these images and this request id."""


async def answers(
    start: Start,
    images: AsyncGenerator[infer_pb2.Image],
    read: Read[Answer],
    seconds: float,
    retries: int,
) -> AsyncGenerator[Answer | FacetError]:
    """Yield the answer to each image, or its error, in order.

    When a worker is replaced, lost or busy, a new stream continues with the first unanswered image. It then has this
    many `seconds` and `retries`. Raises FacetError when the service stays away, and what `images` raises after the
    answers to the images before.
    """
    window, policy = Window(images), None
    try:
        while await window.oldest():
            try:
                async with aclosing(_one_stream(start, window, read, seconds)) as stream:
                    async for answer in stream:
                        policy = None
                        yield answer
            except FacetError as error:
                if error.code == BODY_TOO_LARGE[0]:
                    window.refuse_largest(error)
                    continue
                policy = policy or RetryPolicy(seconds, retries)
                try:
                    await asyncio.sleep(policy.next_delay(error))
                except (BrokeOff, TimedOut):  # perhaps because of this image: continue with the next one
                    await window.pop()
                    policy = None
                    yield error
    finally:
        await window.close()
    window.raise_source_error()


async def _one_stream(
    start: Start, window: Window, read: Read[Answer], seconds: float
) -> AsyncGenerator[Answer | FacetError]:
    """Yield answers until every image has one. Raises FacetError when the stream ends before."""
    request_id = str(uuid.uuid4())
    call = start(window.outbox(), request_id)
    received = iterate_in_thread(call)
    try:
        while image := await window.oldest():
            result: Answer | FacetError
            if isinstance(image, FacetError):
                result = image
            else:
                result = _read(await _next(received, seconds, request_id), read, request_id)
            await window.pop()
            yield result
        with suppress(FacetError):  # every image is answered, however the stream ends
            await _next(received, seconds, request_id)
    finally:
        call.cancel()
        await received.aclose()


async def _next(received: AsyncGenerator[Any], seconds: float, request_id: str) -> infer_pb2.InferResults:
    try:
        async with asyncio.timeout(seconds + GRACE):
            answer = await anext(received, None)
    except TimeoutError as error:
        raise error_for(*TIMED_OUT, request_id) from error
    except grpc.RpcError as error:
        raise failure(error, request_id) from error
    if answer is None:
        raise error_for(*ENDED_EARLY, request_id)
    return cast("infer_pb2.InferResults", answer)


def _read(answer: infer_pb2.InferResults, read: Read[Answer], request_id: str) -> Answer | FacetError:
    """Read an answer, or the error in its place. Raises an error that may pass, such as that of a busy worker."""
    if not answer.message:
        return read(answer)
    error = error_for(answer.code, answer.message, request_id)
    if error.retryable:
        raise error
    return error
