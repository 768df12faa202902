"""HTTP/2 frame by frame: sends what no client library would send, and reads the response."""

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
    """Return the preface and the settings of a client: defaults, without server push."""
    return PREFACE + SettingsFrame(0, settings={SettingsFrame.ENABLE_PUSH: 0}).serialize()


def headers_frame(headers: Headers, stream: int = 1, *, end: bool = False) -> bytes:
    """Return all headers in one frame. None enters the dynamic table, so each frame can be decoded alone."""
    block = Encoder().encode([(name, value, True) for name, value in headers])
    return HeadersFrame(stream, block, flags=["END_HEADERS", *(["END_STREAM"] if end else [])]).serialize()


def data_frames(data: bytes, stream: int = 1, *, end: bool = True) -> bytes:
    """Split data into frames of 16 KiB, the largest size allowed."""
    pieces = [data[start : start + 16384] for start in range(0, len(data), 16384)] or [b""]
    frames = [DataFrame(stream, piece) for piece in pieces]
    if end:
        frames[-1].flags.add("END_STREAM")
    return b"".join(frame.serialize() for frame in frames)


def grpc_headers(method: str, *more: tuple[str, str]) -> Headers:
    """Return the headers of a gRPC call."""
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
    """Prefix a message with its five bytes of flag and length, which may be wrong."""
    return struct.pack(">BI", compressed, len(data) if length is None else length) + data


def address(target: str) -> tuple[str, int]:
    """Return the host and port of a gRPC target or URL."""
    host, _, port = target.removeprefix("http://").partition(":")
    return host, int(port)


@dataclass
class Answer:
    """The response on one stream, or the end of the connection."""

    headers: dict[str, str] = field(default_factory=dict)  # trailers included
    body: bytes = b""
    ended: bool = False  # with END_STREAM
    reset: int | None = None  # error code of the stream
    gone: int | None = None  # error code of the connection


class Connection:
    """Reads frames, and acknowledges settings and pings."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._file = sock.makefile("rb")
        self._decoder = Decoder()
        self.answers: dict[int, Answer] = {}
        self.gone: int | None = None  # error code of GOAWAY

    def read_settings(self) -> None:
        """Read the server's first frame, which grants the flow control window."""
        self._read()

    def answer(self, stream: int = 1) -> Answer:
        """Read until the stream or the connection has ended."""
        answer = self.answers.setdefault(stream, Answer())
        while not (answer.ended or answer.reset is not None) and self._read():
            pass
        answer.gone = self.gone
        return answer

    def _read(self) -> bool:
        """Read one frame; return False at the end of the connection."""
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
