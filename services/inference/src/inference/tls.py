"""mTLS with Envoy: the certificate that a worker shows, and whose calls it takes.

A folder has tls.crt, tls.key and the authority's ca.crt. They are read when a worker starts: SIGHUP takes in new ones.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc

CALLERS = ("envoy", "inference")  # the second is the health check of the container itself
FORMS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


def server_credentials(folder: Path) -> grpc.ServerCredentials:
    """Give what a server needs that asks its callers for a certificate. Raises OSError."""
    key, certificate, authority = _read(folder)
    return grpc.ssl_server_credentials([(key, certificate)], authority, require_client_auth=True)


def channel_credentials(folder: Path) -> grpc.ChannelCredentials:
    """Give what calling such a server takes. Raises OSError."""
    key, certificate, authority = _read(folder)
    return grpc.ssl_channel_credentials(authority, key, certificate)


def _read(folder: Path) -> tuple[bytes, bytes, bytes]:
    key, certificate, authority = ((folder / name).read_bytes() for name in ("tls.key", "tls.crt", "ca.crt"))
    return key, certificate, authority


class OnlyKnownCallers(grpc.aio.ServerInterceptor):
    """Refuses who has a certificate of the authority, and another name than those of CALLERS."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Put the question before each method."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        (form,) = (form for form in FORMS if getattr(handler, form))
        return handler._replace(**{form: _guarded(getattr(handler, form))})


def _guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    """Give the same method for known callers alone."""
    if inspect.isasyncgenfunction(method):

        async def answers(request: Any, context: Any) -> AsyncIterator[Any]:
            await _check(context)
            async for answer in method(request, context):
                yield answer

        return answers

    async def answer(request: Any, context: Any) -> Any:
        await _check(context)
        return await method(request, context)

    return answer


async def _check(context: Any) -> None:
    names = context.auth_context().get("x509_subject_alternative_name", ())
    if not {name.decode() for name in names} & set(CALLERS):
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "this certificate is not Envoy's")
