"""What can go wrong with a request, and the one table of gRPC statuses for it."""

from __future__ import annotations

from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

# The `domain` of google.rpc.ErrorInfo: whose reasons these are.
DOMAIN = "facet"


class RequestError(Exception):
    """Something about a request that its sender can mend. The text is written for the sender."""


class MalformedRequest(RequestError):
    """The message is not what the contract says."""


class EmptyImage(RequestError):
    """There are no bytes to look at."""


class InvalidImage(RequestError):
    """The bytes cannot be decoded."""


class UnsupportedFormat(RequestError):
    """A picture, but not of an accepted format."""


class ImageTooLarge(RequestError):
    """More bytes or pixels than the limits allow."""


class InvalidOption(RequestError):
    """An option is outside its range."""


class Busy(RequestError):
    """The places for waiting are taken, or the wait took too long."""


class NotReady(RequestError):
    """The worker has not loaded its model yet."""


class DeadlineExceeded(RequestError):
    """The answer would come too late."""


STATUS: dict[type[RequestError], tuple[StatusCode, str]] = {
    MalformedRequest: (StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST"),
    EmptyImage: (StatusCode.INVALID_ARGUMENT, "EMPTY_IMAGE"),
    InvalidImage: (StatusCode.INVALID_ARGUMENT, "INVALID_IMAGE"),
    UnsupportedFormat: (StatusCode.INVALID_ARGUMENT, "UNSUPPORTED_FORMAT"),
    ImageTooLarge: (StatusCode.INVALID_ARGUMENT, "IMAGE_TOO_LARGE"),
    InvalidOption: (StatusCode.INVALID_ARGUMENT, "INVALID_OPTION"),
    Busy: (StatusCode.RESOURCE_EXHAUSTED, "BUSY"),
    NotReady: (StatusCode.UNAVAILABLE, "NOT_READY"),
    DeadlineExceeded: (StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
}
INTERNAL = (StatusCode.INTERNAL, "INTERNAL")


def describe(error: Exception) -> tuple[StatusCode, str, str]:
    """Give the status, the machine-readable reason and the text that the sender of a request gets for an error.

    The text of an error that was not foreseen stays in the log.
    """
    if isinstance(error, RequestError):
        return *STATUS[type(error)], str(error)
    return *INTERNAL, "the picture could not be examined because of a fault in the service; the log has the details"


def rich_status(code: StatusCode, reason: str, message: str) -> status_pb2.Status:
    """Make the status that also carries the reason, as google.rpc.ErrorInfo."""
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN))
    return status_pb2.Status(code=code.value[0], message=message, details=[detail])
