"""What a call says beside its messages."""

from __future__ import annotations

import uuid
from typing import Any

import grpc

Context = grpc.aio.ServicerContext[Any, Any]


def seconds_left(context: Context) -> float:
    """Say how long the caller still waits, infinity when it set no deadline."""
    left = context.time_remaining()
    return float("inf") if left is None else max(0.0, left)


def metadata(context: Context) -> dict[str, str | bytes]:
    """Give what the caller sent as headers; of several with one name the last."""
    return dict(context.invocation_metadata() or ())


def request_id_of(context: Context) -> str:
    """Take the caller's id of the request, or make one."""
    return str(metadata(context).get("x-request-id") or uuid.uuid4())
