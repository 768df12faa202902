"""What is retried, and for how long."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from facet import AsyncClient, Client, FacetError, GrpcClient, ImageRefused, ServiceUnavailable, TimedOut, WrongAddress
from facet.errors import error_for
from facet.retries import RetryPolicy

FOUND = '{"message": "", "imageId": "", "width": 7, "height": 5, "results": [], "metaData": {"width": 7, "height": 5}}'
BUSY = '{"message": "the service is busy", "code": "BUSY", "requestId": "id-1"}'
DAMAGED = '{"message": "the image is damaged", "code": "INVALID_IMAGE", "requestId": "id-2"}'
TOO_LARGE = '{"message": "the image is too large", "code": "BODY_TOO_LARGE", "requestId": "id-3"}'
CLOSE = 0  # instead of a status: the connection is closed without an answer


class StandInService(ThreadingHTTPServer):
    """Returns prepared answers, then repeats the last one. It records the timeout of each request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[tuple[int, str]] = []
        self.headers = {"Retry-After": "1"}
        self.trickles = False
        self.reads = True
        self.waits: list[float] = []
        self.times: list[float] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: StandInService

    def do_POST(self) -> None:
        if self.server.reads:
            self.rfile.read(int(self.headers["Content-Length"]))
        self.server.waits.append(float(self.headers["X-Request-Timeout"]))
        self.server.times.append(time.monotonic())
        status, body = self.server.answers.pop(0) if len(self.server.answers) > 1 else self.server.answers[0]
        if status == CLOSE:
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if not self.server.trickles:
            self.wfile.write(body.encode())
            return
        with suppress(ConnectionError):  # the caller has gone
            for character in body:
                self.wfile.write(character.encode())
                time.sleep(0.1)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture
def service() -> Iterator[StandInService]:
    """A service on a free port."""
    with StandInService() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_a_busy_service_is_asked_again_after_the_time_it_asks_for(service: StandInService) -> None:
    """Not earlier, and with the remaining time."""
    service.answers = [(503, BUSY), (200, FOUND)]
    with Client(service.url, timeout=30) as client:
        assert client.detect(b"x").width == 7
    assert service.times[1] - service.times[0] >= 1
    assert service.waits[0] > service.waits[1] + 1


def test_the_async_client_does_the_same(service: StandInService) -> None:
    """It retries once."""
    service.answers = [(503, BUSY), (200, FOUND)]

    async def ask() -> int:
        async with AsyncClient(service.url, timeout=30) as client:
            return (await client.detect(b"x")).width

    assert asyncio.run(ask()) == 7
    assert len(service.waits) == 2


def test_retries_end_with_their_number_or_with_the_timeout(service: StandInService) -> None:
    """The error is the last answer of the service."""
    service.answers = [(503, BUSY)]
    with Client(service.url, retries=0) as client, pytest.raises(ServiceUnavailable, match="BUSY") as caught:
        client.detect(b"x")
    assert (len(service.waits), caught.value.request_id) == (1, "id-1")
    with Client(service.url, timeout=1) as client, pytest.raises(ServiceUnavailable, match="BUSY"):
        client.detect(b"x")  # the next try would come after the timeout
    assert len(service.waits) == 2


def test_what_cannot_succeed_is_not_retried(service: StandInService) -> None:
    """A damaged image stays damaged."""
    service.answers = [(422, DAMAGED)]
    with Client(service.url) as client, pytest.raises(ImageRefused) as caught:
        client.detect(b"x")
    assert (caught.value.code, caught.value.request_id, len(service.waits)) == ("INVALID_IMAGE", "id-2", 1)


@pytest.mark.parametrize(
    ("status", "body"), [(200, "<html>"), (200, '{"results": 1}'), (404, "[]"), (520, ""), (200, "[]"), (200, "{}")]
)
def test_an_answer_of_another_server_is_an_error(service: StandInService, status: int, body: str) -> None:
    """It is not a detection without faces."""
    service.answers = [(status, body)]
    with Client(service.url) as client:
        with pytest.raises(FacetError, match="UNEXPECTED_ANSWER"):
            client.detect(b"x")
        with pytest.raises(FacetError, match="UNEXPECTED_ANSWER"):
            client.annotate(b"x")


def test_an_image_that_breaks_the_connection_is_sent_once_more(service: StandInService) -> None:
    """The image may have killed its worker."""
    service.answers = [(CLOSE, ""), (200, FOUND)]
    with Client(service.url) as client:
        assert client.detect(b"x").width == 7
        service.answers = [(CLOSE, "")]
        with pytest.raises(ServiceUnavailable, match="BROKE_OFF"):
            client.detect(b"x")
    assert len(service.waits) == 4


def test_an_answer_before_the_end_of_the_upload_is_read(service: StandInService) -> None:
    """Envoy rejects a large image early, and closes the connection."""
    service.answers, service.reads = [(413, TOO_LARGE)], False
    large = bytes(20_000_000)

    async def ask() -> None:
        async with AsyncClient(service.url) as client:
            await client.detect(large)

    with Client(service.url) as client, pytest.raises(ImageRefused, match="BODY_TOO_LARGE"):
        client.detect(large)
    with pytest.raises(ImageRefused, match="BODY_TOO_LARGE"):
        asyncio.run(ask())


def test_an_answer_that_trickles_times_out(service: StandInService) -> None:
    """Although each byte comes in time."""
    service.answers, service.trickles = [(200, FOUND)], True

    async def ask() -> None:
        async with AsyncClient(service.url, timeout=0.1) as client:
            await client.detect(b"x")

    with Client(service.url, timeout=0.1) as client, pytest.raises(TimedOut):
        client.detect(b"x")
    with pytest.raises(TimedOut):
        asyncio.run(ask())


def test_an_answer_that_cannot_be_decompressed_is_an_error(service: StandInService) -> None:
    """Its headers say gzip, but it is not compressed."""
    service.answers, service.headers = [(200, FOUND)], {"Content-Encoding": "gzip"}
    with Client(service.url) as client, pytest.raises(FacetError, match="UNEXPECTED_ANSWER"):
        client.detect(b"x")


@pytest.mark.parametrize("seconds", ["nan", "inf", "-5", "Mon, 23 Nov 2026 17:00:00 GMT"])
def test_an_invalid_retry_after_is_ignored(service: StandInService, seconds: str) -> None:
    """The client waits as it would without one."""
    service.answers, service.headers = [(503, BUSY), (200, FOUND)], {"Retry-After": seconds}
    with Client(service.url) as client:
        assert client.detect(b"x").width == 7


def test_a_503_of_a_proxy_is_retried(service: StandInService) -> None:
    """It has no code."""
    service.answers = [(503, "upstream is away"), (200, FOUND)]
    with Client(service.url, timeout=30) as client:
        assert client.detect(b"x").faces == ()


def test_delays_grow_and_never_exceed_the_timeout() -> None:
    """Jitter keeps rejected callers from returning together."""
    away = error_for("UNREACHABLE", "not reachable")
    delays = [[policy.next_delay(away) for _ in range(4)] for policy in (RetryPolicy(60, 9), RetryPolicy(60, 9))]
    assert delays[0] != delays[1]
    for first, second, third, fourth in delays:
        assert 0.05 <= first <= 0.1 <= second <= 0.2 <= third <= 0.4 <= fourth <= 0.8
    with pytest.raises(ServiceUnavailable):
        RetryPolicy(0.01, 9).next_delay(away)
    with pytest.raises(TimedOut):
        RetryPolicy(60, 9).next_delay(error_for("DEADLINE_EXCEEDED", "too late"))


@pytest.mark.parametrize("url", ["localhost", "ftp://x", "http://", "http://x:port"])
def test_an_invalid_url_is_an_error_at_once(url: str) -> None:
    """Before anything is sent."""
    with pytest.raises(WrongAddress, match="not an address"):
        Client(url)


@pytest.mark.parametrize("address", ["ftp://x:80", "http://", "http://:80", "http://x:port", "http://[::1"])
def test_an_invalid_grpc_address_is_an_error_at_once(address: str) -> None:
    """If it is a URL; gRPC interprets every other address."""
    with pytest.raises(WrongAddress, match="not an address"):
        GrpcClient(address)
