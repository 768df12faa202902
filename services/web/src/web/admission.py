"""Admits requests to one gateway process: shared resources are bounded, and a request is refused when one is used up.

A request holds what it took until its response is made, or, where the response itself occupies the memory or the
thread, until the response is sent.
"""

import threading
from contextlib import suppress
from functools import partial

from flask import Flask, Response, g, request
from gunicorn.http.errors import ParseException

from web.errors import RequestFailed
from web.settings import Settings

SPARE_THREADS = 4  # for health, metrics and refusals while all other threads wait for workers
DRAWN_IMAGES = 8  # each holds up to 10 MiB as sent and 20 MiB as drawn, two or three times in memory
LARGE_FILES = 8  # a client that does not read holds a thread until Envoy's timeout
LARGE_FILE = 256 * 1024  # bytes; Envoy buffers a smaller file whole, whether or not its client reads
# A JSON body is in memory several times while it is examined: as sent, as text, decoded, and as a message. With 128
# callers of 10 MiB each, a process was measured at eight times this value; in a container each of two may use 1 GB.
BODY_MEMORY = 96 * 1024 * 1024
CHUNK = 64 * 1024


class Resource:
    """Something of which the process has a bounded amount."""

    def __init__(self, amount: int, refusal: str, *, until_sent: bool = False, workers_busy: bool = False) -> None:
        self._free = amount
        self._lock = threading.Lock()
        self._refusal = refusal
        self._held = "held_until_sent" if until_sent else "held"
        self._workers_busy = workers_busy

    def hold(self, amount: int = 1) -> None:
        """Take an amount for the current request until its end. Raises RequestFailed."""
        with self._lock:
            if amount > self._free:
                raise RequestFailed("BUSY", f"{self._refusal}; try again in a second", workers_busy=self._workers_busy)
            self._free -= amount
        g.setdefault(self._held, []).append(partial(self._release, amount))

    def _release(self, amount: int) -> None:
        with self._lock:
            self._free += amount


class Admission:
    """The bounded resources of the process; requests take body memory as they arrive, the views take the others.

    Create it before other functions are registered with `after_request`: Flask runs them in reverse order, and this one
    must see the response that is really sent.
    """

    def __init__(self, app: Flask, settings: Settings) -> None:
        self._largest_body = settings.max_body_bytes  # nothing beyond it is read
        self.waiting = Resource(
            max(1, settings.web_threads - SPARE_THREADS), "too many requests are waiting for workers", workers_busy=True
        )
        self.body_memory = Resource(max(BODY_MEMORY, self._largest_body), "too many large bodies are being examined")
        self.drawn_images = Resource(DRAWN_IMAGES, "too many images are being drawn", until_sent=True)
        self.large_files = Resource(LARGE_FILES, "too many large files are being sent", until_sent=True)
        app.before_request(self._hold_body_memory)
        app.after_request(_release_when_sent)
        app.teardown_request(_release)

    def _hold_body_memory(self) -> None:
        chunked = "Transfer-Encoding" in request.headers
        size = self._largest_body if chunked else min(request.content_length or 0, self._largest_body)
        try:
            self.body_memory.hold(size)
        except RequestFailed:
            # gunicorn closes a connection whose body is unread, perhaps before Envoy has received the answer.
            with suppress(OSError, ParseException):
                for _ in range(0, self._largest_body, CHUNK):
                    request.stream.read(CHUNK)
            raise


def _release_when_sent(response: Response) -> Response:
    for release in g.pop("held_until_sent", []):
        response.call_on_close(release)
    return response


def _release(_error: BaseException | None) -> None:
    """Release the rest, even after an exception that left no response to send."""
    for release in (*g.pop("held", []), *g.pop("held_until_sent", [])):
        release()
