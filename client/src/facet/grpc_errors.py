"""What a failed gRPC call means."""

from __future__ import annotations

from typing import Any

from google.rpc import error_details_pb2
from grpc import StatusCode
from grpc_status import rpc_status

from facet.errors import FacetError, error_for

BROKE_OFF = ("BROKE_OFF", "the worker, or the connection to it, broke off; try again in a second")
# UNAVAILABLE says that nobody was reached, but also that who was is lost. Its text tells.
LOST = ("Socket closed", "Connection reset", "Broken pipe")
# Envoy's words for a worker lost before it answered. In a stream, which a worker begins to answer at once, they mean a
# connection that was dead already; the picture has met nobody.
LOST_ALONE = (*LOST, "connection termination", "remote reset")
# For a status that comes without a reason: a proxy's own, or gRPC's.
TOO_MANY = "too many requests"  # Envoy's words for its rate limit
RATE_LIMITED = ("RATE_LIMITED", "too many requests; send fewer, and try again in a second")
BY_STATUS = {
    StatusCode.DEADLINE_EXCEEDED: ("DEADLINE_EXCEEDED", "no answer in time; allow more time or send less"),
    StatusCode.RESOURCE_EXHAUSTED: ("BUSY", "the service is busy; try again in a second"),
    StatusCode.UNAUTHENTICATED: ("UNAUTHENTICATED", "the service asks for a valid API key"),
    StatusCode.UNAVAILABLE: ("NOT_READY", "no worker can be reached right now; try again in a second"),
    StatusCode.CANCELLED: BROKE_OFF,
    StatusCode.INTERNAL: BROKE_OFF,
    StatusCode.UNKNOWN: BROKE_OFF,
}


def failure(error: Any, request_id: str, lost: tuple[str, ...] = LOST) -> FacetError:
    """Put a failed call into our words: the service's own reason and text, or a sentence for the status."""
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return error_for(info.reason, status.message, request_id)
    code, details = error.code(), error.details() or ""
    if code is StatusCode.UNAVAILABLE and any(text in details for text in lost):
        return error_for(*BROKE_OFF, request_id)
    if code is StatusCode.UNAVAILABLE and not error.trailing_metadata():  # nobody is there to say so
        return error_for("UNREACHABLE", f"the service cannot be reached: {details}", request_id)
    if code in BY_STATUS:
        return error_for(*(RATE_LIMITED if TOO_MANY in details else BY_STATUS[code]), request_id)
    return error_for("UNEXPECTED_ANSWER", f"the call ended with {code.name}: {details}", request_id)
