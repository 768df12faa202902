"""Bounds the memory of one process: so many bytes of bodies may be in it at a time, however many requests they are."""

from __future__ import annotations

import threading
from contextlib import suppress

from flask import Flask, g, request
from gunicorn.http.errors import ParseException

from web.errors import RequestFailed

# On its way to a worker a JSON body is in memory several times: as it came, as text, decoded, as a message. With 128
# callers of 10 MiB a process was seen to take eight times this, of the 1 GB that each of two has in a container.
ROOM = 96 * 1024 * 1024
CHUNK = 64 * 1024


class BodyRoom:
    """Counts a request's body, by its Content-Length or as the largest, from the request's begin to its end."""

    def __init__(self, app: Flask, *, largest: int) -> None:
        self._largest = largest  # what is longer is not read any further
        self._free = max(ROOM, largest)
        self._lock = threading.Lock()
        app.before_request(self._take)
        app.teardown_request(self._give_back)

    def _take(self) -> None:
        chunked = "Transfer-Encoding" in request.headers
        size = self._largest if chunked else min(request.content_length or 0, self._largest)
        with self._lock:
            fits = size <= self._free
            if fits:
                self._free -= size
                g.body_room = size
        if not fits:
            # Unread, it would have the connection closed, perhaps before Envoy has the answer.
            with suppress(OSError, ParseException):
                for _ in range(0, self._largest, CHUNK):
                    request.stream.read(CHUNK)
            raise RequestFailed("BUSY", "too many large bodies are being examined; try again in a second")

    def _give_back(self, _: BaseException | None) -> None:
        with self._lock:
            self._free += g.pop("body_room", 0)
