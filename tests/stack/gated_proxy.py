"""A proxy in front of a stack that holds requests back."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx


class GatedProxy(ThreadingHTTPServer):
    """Forwards a number of requests, and holds the following ones until they are released."""

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
        """Forward the requests that are held, and all that follow."""
        with self._turnstile:
            self._calls = 1_000_000
            self._turnstile.notify_all()

    def close(self) -> None:
        """Drop the requests that are held."""
        with self._turnstile:
            self._closed = True
            self._turnstile.notify_all()

    def admits(self) -> bool:
        """Wait until the next request may pass; return False when the proxy closes instead."""
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
        with suppress(ConnectionError):  # the client may have disconnected
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers["Content-Type"])
            self.end_headers()
            self.wfile.write(answer.content)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def gated_proxy(stack: str, *, after: int) -> Iterator[GatedProxy]:
    """Run a proxy that forwards `after` requests to a stack, and holds the following ones."""
    with GatedProxy(stack, after) as front:
        thread = threading.Thread(target=front.serve_forever)
        thread.start()
        try:
            yield front
        finally:
            front.close()
            front.shutdown()
            thread.join()
