"""How gunicorn sends a response: headers and body in one write.

gunicorn writes the headers, then the body. A process that is killed in between has sent half an answer, which Envoy has
begun to pass on and cannot ask another gateway for. What is sent at once arrives as a whole or not at all.
"""

from __future__ import annotations

from typing import Any

from gunicorn.http.wsgi import Response


class _Collector:
    """Stands in for the socket while a response is put together."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def sendall(self, data: bytes) -> None:
        self.parts.append(data)


class SingleWrite(Response):  # type: ignore[misc] # gunicorn has no types
    """The response of gunicorn's HTTP/1 workers, put in place of its own in gunicorn.conf.py."""

    sock: Any

    def write(self, arg: bytes) -> None:
        """Send a piece of the body; the first one together with the headers."""
        if self.headers_sent:
            super().write(arg)
            return
        socket, self.sock = self.sock, _Collector()
        try:
            super().write(arg)
            whole = b"".join(self.sock.parts)
        finally:
            self.sock = socket
        socket.sendall(whole)
