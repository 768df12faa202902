"""A proxy in front of a stack that stops where a test wants it to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx


class GatedProxy(ThreadingHTTPServer):
    """Passes so many calls on to a stack, and holds those that follow until they are let through."""

    daemon_threads = True

    def __init__(self, stack: str, calls: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.stack = stack
        self.passed = 0
        self._calls = calls
        self._turnstile = threading.Condition()
        self._closed = False

    def let_through(self) -> None:
        """Hold no call any more."""
        with self._turnstile:
            self._calls = 1_000_000
            self._turnstile.notify_all()

    def close(self) -> None:
        """Drop the calls that are held."""
        with self._turnstile:
            self._closed = True
            self._turnstile.notify_all()

    def admits(self) -> bool:
        """Wait for the next call's turn; say whether it comes."""
        with self._turnstile:
            self._turnstile.wait_for(lambda: self._closed or self.passed < self._calls)
            self.passed += 1
            return not self._closed


class _Handler(BaseHTTPRequestHandler):
    server: GatedProxy

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.server.admits():
            return
        headers = {name: self.headers[name] for name in ("Content-Type", "Accept")}
        answer = httpx.post(self.server.stack + self.path, content=content, headers=headers, timeout=60)
        with suppress(ConnectionError):  # whoever asked may be gone
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers["Content-Type"])
            self.end_headers()
            self.wfile.write(answer.content)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def gated_proxy(stack: str, *, after: int) -> Iterator[GatedProxy]:
    """Stand in front of a stack, and hold what comes after so many calls."""
    with GatedProxy(stack, after) as front:
        thread = threading.Thread(target=front.serve_forever)
        thread.start()
        try:
            yield front
        finally:
            front.close()
            front.shutdown()
            thread.join()
