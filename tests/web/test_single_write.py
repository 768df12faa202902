"""gunicorn sends a response in a single write."""

from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.config import Config
from web.single_write import SingleWrite


class CountingSocket:
    """A stand-in for the client's connection that records each write."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def sendall(self, data: bytes) -> None:
        self.writes.append(data)


def respond(headers: list[tuple[str, str]], pieces: list[bytes]) -> list[bytes]:
    """Send a response as gunicorn's worker does; return the writes."""
    socket = CountingSocket()
    request: Any = SimpleNamespace(version=(1, 1), method="GET", should_close=lambda: False)
    response = SingleWrite(request, socket, Config())
    response.start_response("200 OK", headers)
    for piece in pieces:
        response.write(piece)
    response.close()
    return socket.writes


def test_headers_and_body_are_one_write() -> None:
    """A process that is killed has sent all of it or nothing."""
    (whole,) = respond([("Content-Type", "application/json"), ("Content-Length", "2")], [b"{}"])
    assert whole.startswith(b"HTTP/1.1 200 OK\r\n")
    assert whole.endswith(b"\r\n\r\n{}")


@pytest.mark.parametrize(
    ("headers", "pieces", "expected"),
    [
        ([("Content-Length", "4")], [b"ab", b"cd"], b"abcd"),
        ([], [b"ab", b"cd"], b"2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n"),
        ([("Content-Length", "0")], [], b""),
        ([("Content-Length", "0")], [b""], b""),
    ],
    ids=["in pieces", "chunked", "without a body", "with an empty body"],
)
def test_every_form_of_body_is_as_gunicorn_sends_it(
    headers: list[tuple[str, str]], pieces: list[bytes], expected: bytes
) -> None:
    """Nothing is lost, repeated or reordered."""
    head, _, body = b"".join(respond(headers, pieces)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body == expected
