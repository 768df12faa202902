"""The errors of a call, and the one table of gRPC statuses for them and for the errors of the examination."""

from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

from inference.examination import InvalidOption
from inference.imaging.errors import EmptyImage, ImageTooLarge, InvalidImage, UnsupportedFormat

# The `domain` of google.rpc.ErrorInfo, in which the reasons are defined.
DOMAIN = "facet"


class RequestError(Exception):
    """A call that is refused before or after its examination. The message is written for the sender."""


class MalformedRequest(RequestError):
    """The message is not the one that infer.proto defines."""


class BodyTooLarge(RequestError):
    """The message is larger than any accepted image needs."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"the message has {size} bytes, the limit is {limit}; send a smaller image")


class Busy(RequestError):
    """The queue is full, or the wait took too long."""


class NotReady(RequestError):
    """The worker is loading its model, or is being replaced."""


class DeadlineExceeded(RequestError):
    """The deadline passed before there was an answer."""


STATUS: dict[type[Exception], tuple[StatusCode, str]] = {
    MalformedRequest: (StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST"),
    BodyTooLarge: (StatusCode.INVALID_ARGUMENT, "BODY_TOO_LARGE"),
    EmptyImage: (StatusCode.INVALID_ARGUMENT, "EMPTY_IMAGE"),
    InvalidImage: (StatusCode.INVALID_ARGUMENT, "INVALID_IMAGE"),
    UnsupportedFormat: (StatusCode.INVALID_ARGUMENT, "UNSUPPORTED_FORMAT"),
    ImageTooLarge: (StatusCode.INVALID_ARGUMENT, "IMAGE_TOO_LARGE"),
    InvalidOption: (StatusCode.INVALID_ARGUMENT, "INVALID_OPTION"),
    Busy: (StatusCode.RESOURCE_EXHAUSTED, "BUSY"),
    NotReady: (StatusCode.UNAVAILABLE, "NOT_READY"),
    DeadlineExceeded: (StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
}


def describe(error: Exception) -> tuple[StatusCode, str, str]:
    """Give the status, the machine-readable reason and the message that the sender gets for an error.

    The message of an unexpected error stays in the log.
    """
    if type(error) in STATUS:
        return *STATUS[type(error)], str(error)
    message = "the image could not be examined because of a fault in the service; the log has the details"
    return StatusCode.INTERNAL, "INTERNAL", message


def rich_status(code: StatusCode, reason: str, message: str) -> status_pb2.Status:
    """Make a status that carries the reason as google.rpc.ErrorInfo."""
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN))
    return status_pb2.Status(code=code.value[0], message=message, details=[detail])
