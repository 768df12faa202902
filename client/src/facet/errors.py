"""What can go wrong, by what its catcher would do about it."""

from __future__ import annotations


class FacetError(Exception):
    """A picture that was not examined.

    `code` is the service's own, such as INVALID_IMAGE, or one of the client's: UNREACHABLE, BROKE_OFF, and
    UNEXPECTED_ANSWER from what is no facet. `request_id` stands in the service's logs.
    """

    def __init__(self, code: str, message: str, request_id: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.request_id = request_id
        self.retry_after = retry_after
        """Seconds that the service asks to wait before the next try."""

    @property
    def retryable(self) -> bool:
        """Whether the same picture may succeed a little later."""
        return False

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class WrongAddress(ValueError):
    """An address that can be nobody's."""


class ImageRefused(FacetError):
    """This picture cannot be examined: it is empty, damaged, too large, or of another format."""


class InvalidOption(FacetError):
    """An option is outside its range; every picture would be refused with it."""


class KeyRefused(FacetError):
    """The service asks for an API key, and got none that it knows."""


class TimedOut(FacetError):
    """The answer would have come too late."""


class ServiceUnavailable(FacetError):
    """The service is busy, is not ready, cannot be reached, or has had too many requests of yours."""

    @property
    def retryable(self) -> bool:
        """It may pass."""
        return True


class BrokeOff(ServiceUnavailable):
    """The worker, or the connection to it, was lost while the picture was examined: perhaps the picture's own doing."""


# docs/api.md lists the codes; what is not here is a FacetError itself.
KINDS: dict[str, type[FacetError]] = {
    "EMPTY_IMAGE": ImageRefused,
    "INVALID_IMAGE": ImageRefused,
    "UNSUPPORTED_FORMAT": ImageRefused,
    "IMAGE_TOO_LARGE": ImageRefused,
    "BODY_TOO_LARGE": ImageRefused,
    "INVALID_OPTION": InvalidOption,
    "UNAUTHENTICATED": KeyRefused,
    "DEADLINE_EXCEEDED": TimedOut,
    "REQUEST_TIMEOUT": TimedOut,
    "BUSY": ServiceUnavailable,
    "RATE_LIMITED": ServiceUnavailable,
    "NOT_READY": ServiceUnavailable,
    "UNREACHABLE": ServiceUnavailable,
    "BROKE_OFF": BrokeOff,
}


def error_for(code: str, message: str, request_id: str = "", retry_after: float | None = None) -> FacetError:
    """Make the error that a code stands for."""
    return KINDS.get(code, FacetError)(code, message, request_id, retry_after)
