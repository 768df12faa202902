"""How gunicorn sends a response: headers and body in one write.

gunicorn writes the headers, then the body. A process that is killed in between has sent half a response, which Envoy
has begun to forward, so Envoy cannot retry. A single write arrives whole or not at all.
"""

from typing import Any

from gunicorn.http.wsgi import Response


class _Collector:
    """Replaces the socket while a response is assembled."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def sendall(self, data: bytes) -> None:
        self.parts.append(data)


class SingleWrite(Response):  # type: ignore[misc] # gunicorn has no types
    """The response of gunicorn's HTTP/1 workers; gunicorn.conf.py installs it."""

    sock: Any

    def write(self, arg: bytes) -> None:
        """Send a part of the body, the first part together with the headers."""
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
