"""What can go wrong with a request, and the one table of HTTP statuses for it."""

from __future__ import annotations

import logging
from http import HTTPStatus

from flask import Flask, Response, g, jsonify
from grpc import StatusCode
from werkzeug.exceptions import HTTPException

log = logging.getLogger(__name__)

# The reasons that workers give (inference/errors.py) and our own.
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
    "CALLER_LEFT": 499,  # for the log and the metrics; nobody is there to read it
}
# For a gRPC status that comes without a reason: Envoy's own, or gRPC's.
BY_GRPC_STATUS: dict[StatusCode, tuple[str, str]] = {
    StatusCode.DEADLINE_EXCEEDED: ("DEADLINE_EXCEEDED", "no answer in time; allow more time or send less"),
    StatusCode.RESOURCE_EXHAUSTED: ("BUSY", "the service is busy; try again in a second"),
    StatusCode.UNAVAILABLE: ("NOT_READY", "no worker can be reached right now; try again in a second"),
}
RETRY_AFTER_SECONDS = "1"
UNFORESEEN = "the request failed because of a fault in the service; its log has the details under this requestId"


class RequestFailed(Exception):
    """A request that ends with a reason of the table and a sentence for its sender."""

    def __init__(self, code: str, message: str, *, workers_busy: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.workers_busy = workers_busy


def register_error_handlers(app: Flask) -> None:
    """Let every error be JSON with a true status."""
    app.register_error_handler(RequestFailed, _request_failed)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unforeseen)


def _request_failed(error: RequestFailed) -> Response:
    response = error_response(error.code, error.message)
    if error.workers_busy:
        signal_backpressure(response)
    return response


def signal_backpressure(response: Response) -> None:
    """Have the edge know that the workers are full: it takes this off, and lets in fewer pictures for a while."""
    response.headers["X-Workers-Busy"] = "1"


def error_response(code: str, message: str) -> Response:
    """Make the answer for a reason of the table."""
    g.code = code
    response = jsonify(message=message, code=code, requestId=g.request_id)
    response.status_code = STATUS[code]
    if response.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = RETRY_AFTER_SECONDS
    return response


def _http_error(error: HTTPException) -> Response:
    """Turn what Flask itself refuses (no such path, wrong method, ...) into the same form."""
    status = HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR)
    code = next((code for code, known in STATUS.items() if known == status), "MALFORMED_REQUEST")
    response = error_response(code, _HINTS.get(status) or error.description or status.phrase)
    response.status_code = status
    for name, value in error.get_headers():
        if name == "Allow":
            response.headers[name] = value
    return response


_HINTS = {
    HTTPStatus.NOT_FOUND: "there is nothing here; /docs describes what there is",
    HTTPStatus.METHOD_NOT_ALLOWED: "this path does not take this method; see the Allow header",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "the form has too many parts; send at most 1000",
}


def _unforeseen(error: Exception) -> Response:
    """Log what nobody foresaw; the sender gets the request's id and not its text."""
    log.error("request failed", exc_info=error)
    return error_response("INTERNAL", UNFORESEEN)
