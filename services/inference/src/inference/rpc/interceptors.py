"""Refuses messages that are too large or cannot be parsed. gRPC itself would give no reason, or log a traceback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from inference.rpc.context import Context, request_id_of
from inference.rpc.errors import BodyTooLarge, MalformedRequest, RequestError
from inference.rpc.servicer import abort
from telemetry.logs import request_id


class MessageParser(grpc.aio.ServerInterceptor):
    """Parses the messages of all calls in place of gRPC, and ends calls with unacceptable messages.

    The servicer refuses messages above `max_bytes` in streams, since there an answer needs the id of the image.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """Wrap the handler of a method in one that takes bytes."""
        handler = await continuation(handler_call_details)
        if handler is None:  # unknown method
            return None
        parse = handler.request_deserializer
        if handler.request_streaming:
            changed = {"stream_stream": _parse_each(parse, handler.stream_stream)}
        elif handler.response_streaming:
            changed = {"unary_stream": _parse_one(parse, handler.unary_stream, self._max_bytes)}
        else:
            changed = {"unary_unary": _parse_one(parse, handler.unary_unary, self._max_bytes)}
        return handler._replace(request_deserializer=None, **changed)


def _parse_one(parse: Callable[[bytes], Any], behavior: Any, max_bytes: int) -> Any:
    """Wrap a coroutine function that takes one message."""

    async def answer(data: bytes, context: Context) -> Any:
        if len(data) > max_bytes:  # checked here, because parsing would make another copy
            await _refuse(context, BodyTooLarge(len(data), max_bytes))
        return await behavior(await _message(parse, data, context), context)

    return answer


def _parse_each(parse: Callable[[bytes], Any], behavior: Any) -> Any:
    """Wrap an asynchronous generator that takes a stream of messages."""

    async def answers(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
        async with aclosing(behavior(_Messages(parse, requests, context), context)) as answering:
            async for answer in answering:
                yield answer

    return answers


class _Messages:
    """The parsed messages of a stream. A generator would end when waiting for its next item is cancelled."""

    def __init__(self, parse: Callable[[bytes], Any], requests: AsyncIterator[bytes], context: Context) -> None:
        self._parse = parse
        self._requests = requests
        self._context = context

    def __aiter__(self) -> _Messages:
        return self

    async def __anext__(self) -> Any:
        return await _message(self._parse, await anext(self._requests), self._context)


async def _message(parse: Callable[[bytes], Any], data: bytes, context: Context) -> Any:
    try:
        return parse(data)
    except DecodeError:
        await _refuse(context, MalformedRequest("the message cannot be parsed; it must be as infer.proto defines it"))


async def _refuse(context: Context, error: RequestError) -> NoReturn:
    request_id.set(request_id_of(context))
    await abort(context, error)
