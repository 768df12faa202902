"""The reasons why a request fails, and the one table of their HTTP statuses."""

import logging
from http import HTTPStatus

from flask import Flask, Response, g, jsonify
from grpc import StatusCode
from werkzeug.exceptions import HTTPException

log = logging.getLogger(__name__)

# The reasons of the workers (inference/rpc/errors.py) and of the gateway.
STATUS: dict[str, int] = {
    "MALFORMED_REQUEST": HTTPStatus.BAD_REQUEST,
    "MISSING_IMAGE": HTTPStatus.BAD_REQUEST,
    "EMPTY_IMAGE": HTTPStatus.BAD_REQUEST,
    "INVALID_OPTION": HTTPStatus.BAD_REQUEST,
    "NOT_FOUND": HTTPStatus.NOT_FOUND,
    "METHOD_NOT_ALLOWED": HTTPStatus.METHOD_NOT_ALLOWED,
    "NOT_ACCEPTABLE": HTTPStatus.NOT_ACCEPTABLE,
    "BODY_TOO_LARGE": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "IMAGE_TOO_LARGE": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "UNSUPPORTED_MEDIA_TYPE": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "UNSUPPORTED_FORMAT": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "INVALID_IMAGE": HTTPStatus.UNPROCESSABLE_ENTITY,
    "INTERNAL": HTTPStatus.INTERNAL_SERVER_ERROR,
    "BUSY": HTTPStatus.SERVICE_UNAVAILABLE,
    "NOT_READY": HTTPStatus.SERVICE_UNAVAILABLE,
    "DEADLINE_EXCEEDED": HTTPStatus.GATEWAY_TIMEOUT,
    "CALLER_LEFT": 499,  # for the log and the metrics; the client has disconnected
}
# For a gRPC status without a reason, from Envoy or from gRPC itself.
BY_GRPC_STATUS: dict[StatusCode, tuple[str, str]] = {
    StatusCode.DEADLINE_EXCEEDED: ("DEADLINE_EXCEEDED", "no answer in time; allow more time or send less"),
    StatusCode.RESOURCE_EXHAUSTED: ("BUSY", "the service is busy; try again in a second"),
    StatusCode.UNAVAILABLE: ("NOT_READY", "no worker can be reached right now; try again in a second"),
}
RETRY_AFTER_SECONDS = "1"
UNEXPECTED = "the request failed because of a fault in the service; its log has the details under this requestId"


class RequestFailed(Exception):
    """The request fails for a reason of the table; the message is for the client."""

    def __init__(self, code: str, message: str, *, workers_busy: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.workers_busy = workers_busy


def register_error_handlers(app: Flask) -> None:
    """Make every error JSON with a true status."""
    app.register_error_handler(RequestFailed, _request_failed)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected)


def _request_failed(error: RequestFailed) -> Response:
    response = error_response(error.code, error.message)
    if error.workers_busy:
        signal_backpressure(response)
    return response


def signal_backpressure(response: Response) -> None:
    """Tell Envoy that the workers are full: it removes the header and admits fewer images for a while."""
    response.headers["X-Workers-Busy"] = "1"


def error_response(code: str, message: str) -> Response:
    """Create the response for a reason of the table."""
    g.code = code
    response = jsonify(message=message, code=code, requestId=g.request_id)
    response.status_code = STATUS[code]
    if response.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = RETRY_AFTER_SECONDS
    return response


def _http_error(error: HTTPException) -> Response:
    """Give an error of Flask itself (no such path, wrong method, ...) the same form."""
    status = HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR)
    code = next((code for code, known in STATUS.items() if known == status), "MALFORMED_REQUEST")
    response = error_response(code, _HINTS.get(status) or error.description or status.phrase)
    response.status_code = status
    for name, value in error.get_headers():
        if name == "Allow":
            response.headers[name] = value
    return response


_HINTS = {
    HTTPStatus.NOT_FOUND: "there is nothing here; /docs describes the API",
    HTTPStatus.METHOD_NOT_ALLOWED: "this path does not accept this method; see the Allow header",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "the form has too many parts; send at most 1000",
}


def _unexpected(error: Exception) -> Response:
    """Log an unexpected error; the client gets the request's id, not the error's text."""
    log.error("request failed", exc_info=error)
    return error_response("INTERNAL", UNEXPECTED)
