"""Attacks on the protocols: request smuggling, and floods of frames and headers."""

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
# Requests that one server may parse as one and another server as two; the second one is hidden in the body.
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
# Requests with one meaning: Envoy forwards one Host, a space for a carriage return, and no upgrade.
ACCEPTED = {
    "a bare carriage return": 422,
    "two hosts": 422,
    "a length at GET": 200,
    "a whole address": 422,
    "an upgrade": 422,
}


def answers(address: tuple[str, int], sent: bytes, *, due: bool = False) -> list[int]:
    """Send bytes, and return the status of each answer.

    Unless an answer is `due`, the server may wait for more bytes; after a second the write side is shut down.
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
def test_a_request_has_one_answer_and_cannot_hide_another(attacked: RunningStack, name: str) -> None:
    """Ambiguous requests are rejected, and the hidden request never reaches the gateway."""
    number = list(SHAPES).index(name)
    hidden, visible = f"/hidden/{number:02}", f"/visible/{number:02}"
    sent = SHAPES[name].replace(b"/hidden/##", hidden.encode())
    assert answers(address(attacked.edge), sent, due=True) == [ACCEPTED.get(name, 400)]
    assert answers(address(attacked.edge), HIDDEN.replace(b"/hidden/##", visible.encode()), due=True) == [404]

    def paths() -> list[str | None]:
        return [line.get("path") for line in attacked.log_lines("web")]

    wait_for(lambda: visible in paths(), "a later request is logged")
    assert hidden not in paths()


def test_the_gateway_without_envoy_does_not_fail_either(attacked: RunningStack) -> None:
    """Without Envoy, such requests are answered, rejected or cut off, but cause no errors in the gateway."""
    given = {name: answers(address(attacked.gateway_url), sent) for name, sent in SHAPES.items()}
    assert given.pop("another coding") == [501]  # as RFC 9112 requires
    assert all(status < 500 for statuses in given.values() for status in statuses), given
    assert sum(map(bool, given.values())) >= len(SHAPES) / 2, given
    assert not any(line["level"] == "ERROR" for line in attacked.log_lines("web"))


def envoy_count(stack: RunningStack, name: str) -> int:
    """Return one of Envoy's counters, summed over all listeners or clusters."""
    text = httpx.get(stack.metrics_urls["envoy"], timeout=60).text
    counts = re.findall(rf"^envoy_{name}\{{.*\}} (\d+)$", text, re.MULTILINE)
    assert counts
    return sum(map(int, counts))


@pytest.fixture
def bystander(attacked: RunningStack, face_file: bytes) -> Iterator[Bystander]:
    """Another client, before, during and after the attack."""
    with Bystander(attacked.url, face_file) as client:
        yield client
        wait_for(lambda: client.answered >= 10, "ten answers during the attack")


def flooded(stack: RunningStack, start: bytes, frames: bytes, times: int) -> bool:
    """Send frames repeatedly without reading; return whether Envoy has closed the connection."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # unread answers stay in Envoy
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
    """It would end the connection to the worker with all calls on it, and Envoy would eject the worker."""
    headers = grpc_headers("/Inference/Predict", *((name, each) for each in value.split()))
    before = envoy_count(attacked, "cluster_upstream_cx_protocol_error")
    for _ in range(20):
        with socket.create_connection(address(attacked.edge), timeout=60) as sock:
            sock.sendall(opening() + headers_frame(headers) + data_frames(grpc_message(b"")))
            assert Connection(sock).answer().headers["grpc-status"] == "3"  # because of the header or the empty image
    assert envoy_count(attacked, "cluster_upstream_cx_protocol_error") == before
    del bystander


def test_open_streams_take_no_places_of_requests(attacked: RunningStack, bystander: Bystander) -> None:
    """When there are more streams than allowed, the surplus is rejected, and other requests are answered."""
    method = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    with ExitStack() as connections:
        for _ in range(5):
            sock = connections.enter_context(socket.create_connection(address(attacked.edge), timeout=60))
            streams = [headers_frame(grpc_headers(method), stream) for stream in range(1, 500, 2)]
            sock.sendall(opening() + b"".join(streams))
        assert Connection(sock).answer(499).headers["grpc-status"] == "14"
        count = bystander.answered
        wait_for(lambda: bystander.answered > count + 10, "ten answers beside them")


def test_health_watch_is_not_available_at_the_edge(attacked: RunningStack) -> None:
    """A watch would take a place forever, without a key; clients stop watching on UNIMPLEMENTED."""
    headers = grpc_headers("/grpc.health.v1.Health/Watch")
    with socket.create_connection(address(attacked.edge), timeout=60) as sock:
        sock.sendall(opening() + headers_frame(headers) + data_frames(grpc_message(b"")))
        answer = Connection(sock).answer()
    assert answer.headers["grpc-status"] == "12"
    assert answer.headers["grpc-message"] == "Watch is not supported; use Check"


def test_a_flood_of_reset_streams_ends_the_connection(attacked: RunningStack, bystander: Bystander) -> None:
    """Envoy's HTTP/2 library allows a thousand of them; other clients are not affected."""
    frames = b"".join(
        headers_frame(PLAIN, stream, end=True) + RstStreamFrame(stream, 8).serialize() for stream in range(1, 20_000, 2)
    )
    assert flooded(attacked, b"", frames, 1)
    del bystander


@pytest.mark.parametrize(
    "frame", [PingFrame(0, b"12345678"), SettingsFrame(0, settings={3: 100})], ids=["pings", "settings"]
)
def test_unread_answers_end_the_connection(
    attacked: RunningStack, bystander: Bystander, frame: PingFrame | SettingsFrame
) -> None:
    """Envoy has to acknowledge each ping and settings frame; unread acknowledgements would pile up."""
    assert flooded(attacked, b"", frame.serialize() * 1000, 1000)
    del bystander


def test_headers_without_an_end_end_the_connection(attacked: RunningStack, bystander: Bystander) -> None:
    """Envoy does not collect CONTINUATION frames without a limit."""
    start = HeadersFrame(1, Encoder().encode(PLAIN)).serialize()
    more = ContinuationFrame(1, Encoder().encode([("x-a", "a" * 1000, True)])).serialize()
    assert flooded(attacked, start, more * 100, 100)
    del bystander


@pytest.mark.parametrize(
    "extra",
    [[(f"x-{index}", "a") for index in range(100)], [("x-a", "a" * 20_000)], [("x-a", "a" * 3000)] * 2000],
    ids=["many", "long", "references to one header"],
)
def test_too_many_headers_are_rejected_by_their_decoded_size(
    attacked: RunningStack, bystander: Bystander, extra: Headers
) -> None:
    """The answer is 431 or a reset of the stream, however small the encoded headers are."""
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
