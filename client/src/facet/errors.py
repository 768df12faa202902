"""What can go wrong, by what the caller can do about it."""


class FacetError(Exception):
    """An image was not examined.

    `code` is the service's, such as INVALID_IMAGE, or one of the client's: UNREACHABLE, BROKE_OFF, or UNEXPECTED_ANSWER
    when something other than facet answers. `request_id` finds the request in the service's logs.
    """

    retryable = False
    """Whether the same image may succeed a little later."""

    def __init__(self, code: str, message: str, request_id: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.request_id = request_id
        self.retry_after = retry_after
        """Seconds to wait before the next try, as the service asks."""

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class WrongAddress(ValueError):
    """The address is not valid."""


class LocalSetupError(ValueError):
    """The settings in the environment do not allow the detector to run in this process."""


class ImageRefused(FacetError):
    """The image cannot be examined: it is empty, damaged, too large, or in an unsupported format."""


class InvalidOption(FacetError):
    """An option is outside its range. Every image would be refused with it."""


class KeyRefused(FacetError):
    """The service requires a valid API key."""


class TimedOut(FacetError):
    """There was no answer before the deadline."""


class ServiceUnavailable(FacetError):
    """The service is busy, not ready or not reachable, or it limits the rate of your requests."""

    retryable = True


class BrokeOff(ServiceUnavailable):
    """The worker or the connection to it was lost during the examination, perhaps because of the image."""


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
    return KINDS.get(code, FacetError)(code, message, request_id, retry_after)
