"""What a failed gRPC call means."""

from typing import Any

from google.rpc import error_details_pb2
from grpc import StatusCode
from grpc_status import rpc_status

from facet.errors import FacetError, error_for

BODY_TOO_LARGE = ("BODY_TOO_LARGE", "the image is larger than the service accepts")
BROKE_OFF = ("BROKE_OFF", "the worker or the connection to it was lost; try again in a second")
RATE_LIMITED = ("RATE_LIMITED", "too many requests; send fewer, and try again in a second")
TIMED_OUT = ("DEADLINE_EXCEEDED", "no answer in time; allow more time or send a smaller image")
# UNAVAILABLE means that no worker was reached, or that it was lost. Its text shows which.
LOST = ("Socket closed", "Connection reset", "Broken pipe")
# What Envoy says when a worker is lost before it answers. A stream's worker answers at once, so there it means that the
# connection was dead before: the image reached no worker.
LOST_UNARY = (*LOST, "connection termination", "remote reset")
# The meaning of an error without a reason, which comes from a proxy or from gRPC itself: by its text, or by its status.
BY_TEXT = {
    "too many requests": RATE_LIMITED,
    "larger than max": BODY_TOO_LARGE,  # gRPC in C++ and Go, of a message above a limit
    "exceeds maximum size": BODY_TOO_LARGE,  # gRPC in Java
    "payload too large": BODY_TOO_LARGE,  # Envoy
}
BY_STATUS = {
    StatusCode.DEADLINE_EXCEEDED: TIMED_OUT,
    StatusCode.RESOURCE_EXHAUSTED: ("BUSY", "the service is busy; try again in a second"),
    StatusCode.UNAUTHENTICATED: ("UNAUTHENTICATED", "the service asks for a valid API key"),
    StatusCode.UNAVAILABLE: ("NOT_READY", "no worker can be reached right now; try again in a second"),
    StatusCode.CANCELLED: BROKE_OFF,
    StatusCode.INTERNAL: BROKE_OFF,
    StatusCode.UNKNOWN: BROKE_OFF,
}


def failure(error: Any, request_id: str, lost: tuple[str, ...] = LOST) -> FacetError:
    """Return the error of a failed call: the service's own reason and text, or what the status means."""
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return error_for(info.reason, status.message, request_id)
    code, details = error.code(), error.details() or ""
    meaning = next((BY_TEXT[text] for text in BY_TEXT if text in details.lower()), BY_STATUS.get(code))
    if code is StatusCode.UNAVAILABLE and any(text in details for text in lost):
        return error_for(*BROKE_OFF, request_id)
    if code is StatusCode.UNAVAILABLE and not error.trailing_metadata():  # no proxy answered either
        return error_for("UNREACHABLE", f"the service cannot be reached: {details}", request_id)
    return error_for(*(meaning or ("UNEXPECTED_ANSWER", f"the call ended with {code.name}: {details}")), request_id)
