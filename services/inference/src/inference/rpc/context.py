"""The deadline, the metadata and the request id of a call."""

import uuid
from typing import Any

import grpc

Context = grpc.aio.ServicerContext[Any, Any]


def seconds_left(context: Context) -> float:
    """Give the seconds until the caller's deadline, infinity without one."""
    left = context.time_remaining()
    return float("inf") if left is None else max(0.0, left)


def metadata(context: Context) -> dict[str, str | bytes]:
    """Give the caller's metadata; the last value of a repeated key."""
    return dict(context.invocation_metadata() or ())


def request_id_of(context: Context) -> str:
    """Give the caller's request id, or a new one."""
    return str(metadata(context).get("x-request-id") or uuid.uuid4())
