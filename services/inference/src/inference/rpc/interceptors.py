"""Refuses a message that cannot be read. grpc itself would answer UNKNOWN, and log a traceback each time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from inference.rpc.context import Context, request_id_of
from inference.rpc.errors import MalformedRequest
from inference.rpc.servicer import abort
from telemetry.logs import request_id


class MalformedMessages(grpc.aio.ServerInterceptor):
    """Reads the messages of all calls, in place of grpc, and ends those whose message makes no sense."""

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """Give the method's handler a behaviour that takes bytes."""
        handler = await continuation(handler_call_details)
        if handler is None:  # there is no such method
            return None
        read = handler.request_deserializer
        if handler.request_streaming:
            changed = {"stream_stream": _each_read(read, handler.stream_stream)}
        elif handler.response_streaming:
            changed = {"unary_stream": _read_first(read, handler.unary_stream)}
        else:
            changed = {"unary_unary": _read_first(read, handler.unary_unary)}
        return handler._replace(request_deserializer=None, **changed)


def _read_first(read: Callable[[bytes], Any], behaviour: Any) -> Any:
    """For a behaviour that is a coroutine function with one message."""

    async def answer(data: bytes, context: Context) -> Any:
        return await behaviour(await _message(read, data, context), context)

    return answer


def _each_read(read: Callable[[bytes], Any], behaviour: Any) -> Any:
    """For a behaviour that is an asynchronous generator, from messages to messages."""

    async def answers(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
        async with aclosing(behaviour(_Messages(read, requests, context), context)) as answering:
            async for answer in answering:
                yield answer

    return answers


class _Messages:
    """What comes in on a stream. No generator: those do not outlive a caller who gives up waiting for the next."""

    def __init__(self, read: Callable[[bytes], Any], requests: AsyncIterator[bytes], context: Context) -> None:
        self._read = read
        self._requests = requests
        self._context = context

    def __aiter__(self) -> _Messages:
        return self

    async def __anext__(self) -> Any:
        return await _message(self._read, await anext(self._requests), self._context)


async def _message(read: Callable[[bytes], Any], data: bytes, context: Context) -> Any:
    try:
        return read(data)
    except DecodeError:
        request_id.set(request_id_of(context))
        await abort(context, MalformedRequest("the message cannot be read; it must be what infer.proto says"))
