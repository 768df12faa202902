"""Bounds the threads of one process that send a large answer: who does not read it keeps one until Envoy lets go."""

from __future__ import annotations

import threading
from http import HTTPStatus

from flask import Flask, Response, request

from web.errors import error_response

LARGE = 256 * 1024  # bytes; Envoy takes a smaller one off our hands at once, whether its client reads or not
PLACES = 8


class LargeAnswers:
    """Gives a large answer a place until it is sent; who finds none is told to come again."""

    def __init__(self, app: Flask) -> None:
        self._places = threading.BoundedSemaphore(PLACES)
        app.after_request(self._hold)

    def _hold(self, response: Response) -> Response:
        size = 0 if response.status_code == HTTPStatus.NOT_MODIFIED else response.content_length or 0
        if size <= LARGE or request.endpoint == "api.annotate":  # which has places of its own
            return response
        if not self._places.acquire(blocking=False):
            return error_response("BUSY", "too many large answers are being sent; try again in a second")
        response.call_on_close(self._places.release)
        return response
