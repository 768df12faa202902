"""Attacks on the protocols: requests hidden in others, floods of frames and of headers."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import httpx
import pytest
from hpack import Encoder
from hyperframe.frame import ContinuationFrame, HeadersFrame, PingFrame, RstStreamFrame, SettingsFrame

from tests.hostile.bystander import Bystander
from tests.hostile.http2 import (
    Connection,
    Headers,
    address,
    data_frames,
    grpc_headers,
    grpc_message,
    headers_frame,
    opening,
)
from tests.stack.running import RunningStack, wait_for

HIDDEN = b"GET /hidden/## HTTP/1.1\r\nHost: facet\r\n\r\n"
PLAIN: Headers = [(":method", "GET"), (":scheme", "http"), (":path", "/healthz"), (":authority", "facet")]


def shape(*lines: bytes, body: bytes = b"", start: bytes = b"POST /predict HTTP/1.1") -> bytes:
    return b"\r\n".join((start, b"Host: facet", b"Content-Type: image/png", *lines)) + b"\r\n\r\n" + body


CHUNKED = b"Transfer-Encoding: chunked"
LENGTH = b"Content-Length: %d" % len(HIDDEN)
# Requests that two servers may take for one and for two, with a second one hidden where the other would look for it.
SHAPES = {
    "a length and chunks": shape(b"Content-Length: 5", CHUNKED, body=b"0\r\n\r\n" + HIDDEN),
    "chunks and a length": shape(CHUNKED, LENGTH, body=b"0\r\n\r\n" + HIDDEN),
    "two lengths": shape(b"Content-Length: 0", LENGTH, body=HIDDEN),
    "two lengths in one": shape(b"Content-Length: 0, %d" % len(HIDDEN), body=HIDDEN),
    "a length with a sign": shape(b"Content-Length: +%d" % len(HIDDEN), body=HIDDEN),
    "a hexadecimal length": shape(b"Content-Length: 0x%x" % len(HIDDEN), body=HIDDEN),
    "a negative length": shape(b"Content-Length: -1", body=HIDDEN),
    "a space before the colon": shape(b"Transfer-Encoding : chunked", LENGTH, body=HIDDEN),
    "a vertical tab": shape(b"Transfer-Encoding: \x0bchunked", LENGTH, body=HIDDEN),
    "a folded line": shape(b"Transfer-Encoding:\r\n chunked", LENGTH, body=HIDDEN),
    "another coding": shape(b"Transfer-Encoding: xchunked", LENGTH, body=HIDDEN),
    "codings in a row": shape(b"Transfer-Encoding: chunked, identity", LENGTH, body=HIDDEN),
    "twice chunked": shape(CHUNKED, CHUNKED, LENGTH, body=HIDDEN),
    "capitals and a length": shape(b"tRANSFER-eNCODING: CHUNKED", LENGTH, body=HIDDEN),
    "a null in a header": shape(b"X-A: a\0b", LENGTH, body=HIDDEN),
    "a null in a name": shape(b"Content-Length\0: 0", LENGTH, body=HIDDEN),
    "a bare line feed": shape(b"X-A: b\nContent-Length: 0", LENGTH, body=HIDDEN),
    "a bare carriage return": shape(b"X-A: b\rContent-Length: 0", LENGTH, body=HIDDEN),
    "a chunk without a size": shape(CHUNKED, body=b"\r\n" + HIDDEN),
    "a chunk of a negative size": shape(CHUNKED, body=b"-1\r\n" + HIDDEN),
    "a chunk of 2^64 bytes": shape(CHUNKED, body=b"10000000000000000\r\n" + HIDDEN),
    "a chunk with an underscore": shape(CHUNKED, body=b"1_0\r\n" + HIDDEN),
    "a chunk that is too short": shape(CHUNKED, body=b"1\r\nab\r\n0\r\n\r\n" + HIDDEN),
    "only line feeds in a chunk's end": shape(CHUNKED, body=b"1;a\nb\r\n0\r\n\r\n" + HIDDEN),
    "another version": shape(LENGTH, body=HIDDEN, start=b"POST /predict HTTP/1.2"),
    "an old version": shape(LENGTH, body=HIDDEN, start=b"POST /predict HTTP/1.0"),
    "no version": b"GET /hidden/##\r\n",
    "two hosts": shape(b"Host: elsewhere", LENGTH, body=HIDDEN),
    "a length at GET": shape(LENGTH, body=HIDDEN, start=b"GET /healthz HTTP/1.1"),
    "a whole address": shape(LENGTH, body=HIDDEN, start=b"POST http://elsewhere/predict HTTP/1.1"),
    "an upgrade": shape(b"Connection: Upgrade", b"Upgrade: h2c", LENGTH, body=HIDDEN),
}
# What has one meaning: Envoy hands on one Host, a space for a carriage return, and no upgrade.
UNDERSTOOD = {
    "a bare carriage return": 422,
    "two hosts": 422,
    "a length at GET": 200,
    "a whole address": 422,
    "an upgrade": 422,
}


def answers(address: tuple[str, int], sent: bytes, *, due: bool = False) -> list[int]:
    """Send bytes, then nothing more, and give the status of each answer.

    Where no answer is `due`, the other end may wait for more of the request, and learns after a second that there is
    none.
    """
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(sent)
        received = b""
        with suppress(OSError):
            connection.settimeout(60 if due else 1)
            received = connection.recv(65536)
        with suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(60)
            while more := connection.recv(65536):
                received += more
    return [int(status) for status in re.findall(rb"^HTTP/1\.1 (\d{3}) ", received, re.MULTILINE)]


@pytest.mark.parametrize("name", SHAPES)
def test_a_request_has_one_answer_and_hides_no_other(attacked: RunningStack, name: str) -> None:
    """What can be read in two ways is refused, and the hidden request never gets to the gateway."""
    number = list(SHAPES).index(name)
    hidden, open_to_see = f"/hidden/{number:02}", f"/seen/{number:02}"
    sent = SHAPES[name].replace(b"/hidden/##", hidden.encode())
    assert answers(address(attacked.edge), sent, due=True) == [UNDERSTOOD.get(name, 400)]
    assert answers(address(attacked.edge), HIDDEN.replace(b"/hidden/##", open_to_see.encode()), due=True) == [404]

    def paths() -> list[str | None]:
        return [line.get("path") for line in attacked.log_lines("web")]

    wait_for(lambda: open_to_see in paths(), "the request behind it is logged")
    assert hidden not in paths()


def test_the_gateway_alone_does_not_fail_either(attacked: RunningStack) -> None:
    """Past Envoy such requests are refused or answered, most in words, and none is a fault of the service."""
    given = {name: answers(address(attacked.gateway_url), sent) for name, sent in SHAPES.items()}
    assert given.pop("another coding") == [501]  # so RFC 9112 wants it
    assert all(status < 500 for statuses in given.values() for status in statuses), given
    assert sum(map(bool, given.values())) >= len(SHAPES) / 2, given
    assert not any(line["level"] == "ERROR" for line in attacked.log_lines("web"))


def envoy_count(stack: RunningStack, name: str) -> int:
    """One of Envoy's counters, of all listeners or clusters."""
    text = httpx.get(stack.metrics_urls["envoy"], timeout=60).text
    counts = re.findall(rf"^envoy_{name}\{{.*\}} (\d+)$", text, re.MULTILINE)
    assert counts
    return sum(map(int, counts))


@pytest.fixture
def bystander(attacked: RunningStack, face_file: bytes) -> Iterator[Bystander]:
    """Somebody else's pictures, before, while and after."""
    with Bystander(attacked.url, face_file) as somebody:
        yield somebody
        wait_for(lambda: somebody.answered >= 10, "ten pictures beside the attack")


def flooded(stack: RunningStack, start: bytes, frames: bytes, times: int) -> bool:
    """Send frames again and again, reading nothing; say whether Envoy has closed the connection."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # what is not read stays with Envoy
        connection.settimeout(60)
        connection.connect(address(stack.edge))
        try:
            connection.sendall(opening() + start)
            for _ in range(times):
                connection.sendall(frames)
            while connection.recv(65536):
                pass
        except TimeoutError:
            return False
        except ConnectionError:
            return True
        return True


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("grpc-timeout", "-1S"),
        ("grpc-encoding", "nonsense"),
        ("grpc-encoding", "nonsense gzip"),
        ("any-bin", "%%%"),
        ("grpc-status", "x"),
        ("grpc-internal-encoding-request", "x"),
        ("grpc-previous-rpc-attempts", "x"),
        ("grpc-retry-pushback-ms", "x"),
    ],
)
def test_a_header_that_grpc_cannot_read_does_not_reach_a_worker(
    attacked: RunningStack, bystander: Bystander, name: str, value: str
) -> None:
    """It would end the connection to the worker, on which other calls are, and that is taken for a worker's death."""
    headers = grpc_headers("/Inference/Predict", *((name, each) for each in value.split()))
    before = envoy_count(attacked, "cluster_upstream_cx_protocol_error")
    for _ in range(20):
        with socket.create_connection(address(attacked.edge), timeout=60) as sock:
            sock.sendall(opening() + headers_frame(headers) + data_frames(grpc_message(b"")))
            assert Connection(sock).answer().headers["grpc-status"] == "3"  # of the header, or of the empty picture
    assert envoy_count(attacked, "cluster_upstream_cx_protocol_error") == before
    del bystander


def test_streams_that_stay_open_take_no_places_of_pictures(attacked: RunningStack, bystander: Bystander) -> None:
    """More of them than may be under way in all: those that are too many are refused, and pictures are not."""
    method = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    with ExitStack() as connections:
        for _ in range(5):
            sock = connections.enter_context(socket.create_connection(address(attacked.edge), timeout=60))
            streams = [headers_frame(grpc_headers(method), stream) for stream in range(1, 500, 2)]
            sock.sendall(opening() + b"".join(streams))
        assert Connection(sock).answer(499).headers["grpc-status"] == "14"
        count = bystander.answered
        wait_for(lambda: bystander.answered > count + 10, "ten pictures beside them")


def test_nobody_watches_health_at_the_edge(attacked: RunningStack) -> None:
    """It would take a place for ever, also from who has no key: UNIMPLEMENTED, which a client takes for "do not"."""
    headers = grpc_headers("/grpc.health.v1.Health/Watch")
    with socket.create_connection(address(attacked.edge), timeout=60) as sock:
        sock.sendall(opening() + headers_frame(headers) + data_frames(grpc_message(b"")))
        answer = Connection(sock).answer()
    assert answer.headers["grpc-status"] == "12"
    assert answer.headers["grpc-message"] == "Watch is not supported; use Check"


def test_streams_that_are_opened_only_to_be_reset_end_the_connection(
    attacked: RunningStack, bystander: Bystander
) -> None:
    """Envoy's HTTP/2 library bears a thousand of them at once; nobody else has less of it meanwhile."""
    frames = b"".join(
        headers_frame(PLAIN, stream, end=True) + RstStreamFrame(stream, 8).serialize() for stream in range(1, 20_000, 2)
    )
    assert flooded(attacked, b"", frames, 1)
    del bystander


@pytest.mark.parametrize(
    "frame", [PingFrame(0, b"12345678"), SettingsFrame(0, settings={3: 100})], ids=["pings", "settings"]
)
def test_answers_that_nobody_reads_end_the_connection(
    attacked: RunningStack, bystander: Bystander, frame: PingFrame | SettingsFrame
) -> None:
    """Each ping and each change of settings is to be acknowledged, and the acknowledgements would pile up."""
    assert flooded(attacked, b"", frame.serialize() * 1000, 1000)
    del bystander


def test_headers_without_an_end_end_the_connection(attacked: RunningStack, bystander: Bystander) -> None:
    """Frames of more headers, one after another, are not collected."""
    start = HeadersFrame(1, Encoder().encode(PLAIN)).serialize()
    more = ContinuationFrame(1, Encoder().encode([("x-a", "a" * 1000, True)])).serialize()
    assert flooded(attacked, start, more * 100, 100)
    del bystander


@pytest.mark.parametrize(
    "extra",
    [[(f"x-{index}", "a") for index in range(100)], [("x-a", "a" * 20_000)], [("x-a", "a" * 3000)] * 2000],
    ids=["many", "long", "a bomb of one header that is referred to again and again"],
)
def test_too_many_headers_are_refused_by_measure(attacked: RunningStack, bystander: Bystander, extra: Headers) -> None:
    """431 in the form of all errors, or the stream is reset; however small they were on the wire."""
    with socket.create_connection(address(attacked.edge), timeout=60) as sock:
        block = Encoder().encode([*PLAIN, *extra])
        pieces = [block[start : start + 16_000] for start in range(0, len(block), 16_000)]
        frames = [
            HeadersFrame(1, pieces[0], flags=["END_STREAM"]),
            *(ContinuationFrame(1, more) for more in pieces[1:]),
        ]
        frames[-1].flags.add("END_HEADERS")
        sock.sendall(opening() + b"".join(frame.serialize() for frame in frames))
        answer = Connection(sock).answer()
    assert answer.headers.get(":status") == "431" or answer.reset is not None or answer.gone is not None
    del bystander
