"""HTTP/2 by hand: frames that no client library would send, and what comes back."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass, field

from hpack import Decoder, Encoder
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_BYTES = 9  # of a frame
Headers = list[tuple[str, str]]


def opening() -> bytes:
    """What a client says first: window and frames as by default, no pushes."""
    return PREFACE + SettingsFrame(0, settings={SettingsFrame.ENABLE_PUSH: 0}).serialize()


def headers_frame(headers: Headers, stream: int = 1, *, end: bool = False) -> bytes:
    """All headers in one frame; none of them goes into the dynamic table, so any frame can be left out."""
    block = Encoder().encode([(name, value, True) for name, value in headers])
    return HeadersFrame(stream, block, flags=["END_HEADERS", *(["END_STREAM"] if end else [])]).serialize()


def data_frames(data: bytes, stream: int = 1, *, end: bool = True) -> bytes:
    """Data in frames of 16 KiB, as large as a frame may be."""
    pieces = [data[start : start + 16384] for start in range(0, len(data), 16384)] or [b""]
    frames = [DataFrame(stream, piece) for piece in pieces]
    if end:
        frames[-1].flags.add("END_STREAM")
    return b"".join(frame.serialize() for frame in frames)


def grpc_headers(method: str, *more: tuple[str, str]) -> Headers:
    """What a gRPC client sends before its message."""
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", method),
        (":authority", "facet"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        *more,
    ]


def grpc_message(data: bytes, *, compressed: int = 0, length: int | None = None) -> bytes:
    """Put a message behind its prefix of five bytes, which may lie."""
    return struct.pack(">BI", compressed, len(data) if length is None else length) + data


def address(target: str) -> tuple[str, int]:
    """Give host and port of a target or of a URL."""
    host, _, port = target.removeprefix("http://").partition(":")
    return host, int(port)


@dataclass
class Answer:
    """What came back on one stream, or for the connection as a whole."""

    headers: dict[str, str] = field(default_factory=dict)  # and trailers
    body: bytes = b""
    ended: bool = False  # the stream, in order
    reset: int | None = None  # the stream's error code
    gone: int | None = None  # the connection's error code


class Connection:
    """Reads frames; answers settings and pings as the protocol wants it."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._file = sock.makefile("rb")
        self._decoder = Decoder()
        self.answers: dict[int, Answer] = {}
        self.gone: int | None = None  # the error code with which the connection ended

    def heard(self) -> None:
        """Take in the server's first frame, which says how much it takes at once."""
        self._read()

    def answer(self, stream: int = 1) -> Answer:
        """Read until a stream has ended, or the connection."""
        answer = self.answers.setdefault(stream, Answer())
        while not (answer.ended or answer.reset is not None) and self._read():
            pass
        answer.gone = self.gone
        return answer

    def _read(self) -> bool:
        """Take in one frame; false when there are no more."""
        head = self._file.read(HEADER_BYTES)
        if len(head) < HEADER_BYTES:
            return False
        frame, length = Frame.parse_frame_header(memoryview(head))
        frame.parse_body(memoryview(self._file.read(length)))
        if isinstance(frame, GoAwayFrame):
            self.gone = frame.error_code
            return frame.error_code == 0
        if isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
            self._socket.sendall(SettingsFrame(0, flags=["ACK"]).serialize())
        elif isinstance(frame, PingFrame) and "ACK" not in frame.flags:
            self._socket.sendall(PingFrame(0, frame.opaque_data, flags=["ACK"]).serialize())
        elif frame.stream_id:
            self._take(frame, self.answers.setdefault(frame.stream_id, Answer()))
        return True

    def _take(self, frame: Frame, answer: Answer) -> None:
        if isinstance(frame, HeadersFrame):
            answer.headers |= {str(name): str(value) for name, value in self._decoder.decode(frame.data)}
        elif isinstance(frame, DataFrame):
            answer.body += frame.data
        elif isinstance(frame, RstStreamFrame):
            answer.reset = frame.error_code
        answer.ended = answer.ended or "END_STREAM" in frame.flags
