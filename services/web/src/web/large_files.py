"""Bounds the threads of one process that send a large file: who does not read it keeps one until Envoy lets go."""

from __future__ import annotations

import threading
from http import HTTPStatus

from flask import Flask, Response, request

from web.errors import error_response

LARGE = 256 * 1024  # bytes; Envoy takes a smaller one off our hands at once, whether its client reads or not
PLACES = 8


class LargeFiles:
    """Gives a large file of a page a place until it is sent; who finds none is told to come again."""

    def __init__(self, app: Flask) -> None:
        self._places = threading.BoundedSemaphore(PLACES)
        app.after_request(self._hold)

    def _hold(self, response: Response) -> Response:
        empty = request.method == "HEAD" or response.status_code == HTTPStatus.NOT_MODIFIED
        if request.blueprint != "pages" or empty or (response.content_length or 0) <= LARGE:
            return response
        if not self._places.acquire(blocking=False):
            return error_response("BUSY", "too many large files are being sent; try again in a second")
        response.call_on_close(self._places.release)
        return response
