"""Clients that disconnect, stall or do not read are dropped in time, leave nothing behind, and cost others little."""

import json
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import cycle, islice
from urllib.parse import urlsplit

import grpc
import httpx
import psutil
import pytest
import wire
from facet.command.load import Request
from inference.settings import Settings as InferenceSettings
from PIL import Image
from web.settings import Settings as WebSettings

from protos import infer_pb2, infer_pb2_grpc
from tests.conftest import Figures, encode
from tests.stack.running import RunningStack, running_stack, wait_for
from tests.stack.under_load import percentile_ms

DISCONNECTS = 1000
AT_ONCE = 50
ALL_PLACES = 2 * (1 + InferenceSettings().queue_places)  # of two workers
SLOW = 500
STALLED = 150
IDLE_ENDS = 'envoy_http_downstream_rq_idle_timeout{envoy_http_conn_manager_prefix="edge"}'
# Four responses of 1.7 MB: the kernel's buffers could hold a single one.
LARGE_FILE = b"GET /static/swagger-ui-bundle.js HTTP/1.1\r\nHost: facet\r\n"
LARGE_FILES = 3 * (LARGE_FILE + b"\r\n") + LARGE_FILE + b"Connection: close\r\n\r\n"
NORMAL_SHARE = 0.5  # of the capacity


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A stack with two workers, for these clients only."""
    with running_stack(tmp_path_factory.mktemp("two") / "logs", "--workers=2") as running:
        yield running


@pytest.fixture(scope="module")
def image(astronaut: Image.Image) -> bytes:
    """A JPEG of 640 x 480."""
    return encode(astronaut.resize((640, 480)), "JPEG")


@pytest.fixture(scope="module")
def request_(image: bytes) -> bytes:
    """A complete request with it."""
    return wire.post("/predict", image, "image/jpeg")


def connect(url: str, *, receives: int | None = None) -> socket.socket:
    """Connect to the host and port of a URL; `receives` bounds the receive buffer in bytes."""
    client = socket.socket()
    if receives:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
    parts = urlsplit(url)
    client.settimeout(60)
    client.connect((parts.hostname, parts.port))
    return client


def held(stack: RunningStack) -> dict[int, tuple[int, int]]:
    """Count each process's threads and descriptors, except open connections: the tiers keep some of those for reuse."""
    found = {}
    for process in stack.processes():
        established = [each for each in process.net_connections() if each.status == psutil.CONN_ESTABLISHED]
        found[process.pid] = (process.num_threads(), process.num_fds() - len(established))
    return found


def settled(stack: RunningStack) -> dict[int, tuple[int, int]]:
    """Return the same counts once they are equal twice in a row: a connection may end while it is counted."""
    counted = [held(stack)]

    def the_same_twice() -> bool:
        counted.append(held(stack))
        return counted[-1] == counted[-2]

    wait_for(the_same_twice, "threads and descriptors settle")
    return counted[-1]


def at_the_edge(stack: RunningStack) -> int:
    """Return Envoy's count of client connections."""
    return stat(stack, 'envoy_http_downstream_cx_active{envoy_http_conn_manager_prefix="edge"}')


def stat(stack: RunningStack, name: str, tier: str = "envoy") -> int:
    lines = httpx.get(stack.metrics_urls[tier], timeout=60).text.splitlines()
    return sum(int(float(line.split()[-1])) for line in lines if line.startswith(name + " "))


def is_idle(stack: RunningStack) -> bool:
    """Report whether no tier is working on a request."""
    busy = stat(stack, "facet_http_requests_in_flight", "web") + stat(stack, "facet_inference_in_flight", "inference")
    return busy == 0 and at_the_edge(stack) == 0


def disconnect(stack: RunningStack, request: bytes, count: int) -> None:
    """Have `count` clients disconnect, half while uploading and half while waiting, and wait until all tiers know."""
    for _ in range(0, count, AT_ONCE):
        with ExitStack() as clients:
            for number in range(AT_ONCE):
                client = clients.enter_context(connect(stack.url))
                client.sendall(request if number % 2 else request[: len(request) // 2])
            wait_for(lambda: at_the_edge(stack) == AT_ONCE, "Envoy has them")
    wait_for(lambda: is_idle(stack), "all tiers know that they have disconnected")


def test_disconnected_clients_leave_nothing_behind(
    two: RunningStack, figures: Figures, request_: bytes, *, long: bool
) -> None:
    """After disconnects while uploading or waiting, threads, descriptors and admission are as before."""
    wire.capacity(two.url, request_, judge, seconds=1)  # both workers have warmed up
    disconnect(two, request_, 200)
    before, count = settled(two), DISCONNECTS if long else 300
    disconnect(two, request_, count)
    after: dict[int, tuple[int, int]] = {}

    def no_more_descriptors() -> bool:
        after.update(settled(two))
        return all(after[pid][1] <= before[pid][1] for pid in before)

    wait_for(no_more_descriptors, "no process holds more descriptors than before", every=1)
    assert after.keys() == before.keys()
    # gunicorn starts a thread for each request until it has the most that it may have.
    gateways = {process.pid for gunicorn in two.gateways() for process in gunicorn.children()}
    more = {pid: after[pid][0] - before[pid][0] for pid in before}
    most = {pid: WebSettings().web_threads if pid in gateways else 2 for pid in before}
    assert all(more[pid] <= most[pid] for pid in before), more

    def all_places_are_free() -> bool:
        requests = wire.closed_load(two.url, request_, judge, callers=ALL_PLACES, seconds=0.5)
        return {request.code for request in requests} == {""}

    wait_for(all_places_are_free, "as many requests as there are places all succeed")
    figures(
        f"{count} clients disconnect while uploading or waiting",
        {
            "more threads, gateways": sum(more[pid] for pid in gateways),
            "more threads, others": sum(more[pid] for pid in before.keys() - gateways),
            "more descriptors": max(after[pid][1] - before[pid][1] for pid in before),
        },
        at_most={"more threads, others": 2, "more descriptors": 0},
    )


def judge(answer: wire.Answer) -> str:
    """Return the code of an error, and nothing for a success."""
    return "" if answer.status == httpx.codes.OK else str(json.loads(answer.body)["code"])


def answered(load: wire.OpenLoad) -> list[Request]:
    """Return the requests that succeeded."""
    return [request for request in load.requests if not request.code]


def test_short_deadlines_cost_no_connection_and_no_worker(
    two: RunningStack, request_: bytes, image: bytes, figures: Figures, *, long: bool
) -> None:
    """Deadlines that pass at once, and clients that disconnect: the tiers stay connected, and no worker is ejected.

    A worker that reported exceeded deadlines would be ejected; a gateway that reset calls would lose its connection.
    """
    counters = ("http.internal.downstream_cx_destroy", "cluster.inference.outlier_detection.ejections_enforced_total")
    before = [two.envoy(counter) for counter in counters]
    hasty = wire.post("/predict", image, "image/jpeg", X_Request_Timeout="0.03")
    with wire.OpenLoad(two.url, request_, judge, 5) as normal:
        requests = wire.closed_load(two.url, hasty, judge, callers=16, seconds=30 if long else 3)
        calls = hasty_calls(two, image, 300)
    disconnect(two, request_, 1200)
    assert {request.code for request in requests} <= {"", "DEADLINE_EXCEEDED", "BUSY"}
    assert set(calls) <= {grpc.StatusCode.OK, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert set(normal.wrong) <= {"BUSY"}
    ended = [two.envoy(counter) - count for counter, count in zip(counters, before, strict=True)]
    late = [request for request in requests if request.code == "DEADLINE_EXCEEDED"]
    figures(
        "short deadlines: 16 clients with 30 ms each, then 1200 that disconnect",
        {
            "requests": len(requests),
            "504": len(late),
            "504 p99, ms": percentile_ms(late, 99),
            "normal, refused": normal.wrong.total(),
            "connections of the gateway that ended": ended[0],
            "ejections": ended[1],
        },
        at_most={"connections of the gateway that ended": 0, "ejections": 0},
    )
    assert ended == [0, 0]


def hasty_calls(stack: RunningStack, data: bytes, count: int) -> list[grpc.StatusCode]:
    """Call Predict and PredictStream alternately over gRPC, each with a deadline of 30 ms."""
    image, statuses = infer_pb2.Image(raw_data=data), []
    with grpc.insecure_channel(stack.edge) as channel:
        stub = infer_pb2_grpc.InferenceStub(channel)
        for _ in range(count // 2):
            call, stream = stub.Predict.future(image, timeout=0.03), stub.PredictStream(iter([image]), timeout=0.03)
            statuses += [call.code(), stream.code()]
    return statuses


def slow_clients(stack: RunningStack, request: bytes, kinds: Sequence[str]) -> Iterator[tuple[str, socket.socket]]:
    """Yield clients of alternating kinds: they send half of their headers, half of a body, or do not read."""
    sent = {"headers": request.partition(b"\r\n\r\n")[0], "body": request[: len(request) // 2], "reader": LARGE_FILES}
    for kind in islice(cycle(kinds), SLOW):
        client = connect(stack.url, receives=4096)
        client.sendall(sent[kind])
        yield kind, client


def status(client: socket.socket) -> str:
    """Read until the connection closes, and return the status line."""
    with client.makefile("rb") as answer:
        return answer.read().partition(b"\r\n")[0].decode()


def test_slow_clients_are_dropped_and_cost_others_little(
    two: RunningStack, figures: Figures, request_: bytes, *, long: bool
) -> None:
    """Each gets an error or is disconnected when its time is over; a normal client succeeds, or is refused as BUSY."""
    kinds = ("headers", "body", "reader") if long else ("headers", "body")
    seconds = 14 if long else 5
    refusals = "large_files.http_local_rate_limit.rate_limited"
    refused = two.envoy(refusals)
    capacity = wire.capacity(two.url, request_, judge, seconds=3)
    with wire.OpenLoad(two.url, request_, judge, NORMAL_SHARE * capacity) as alone:
        time.sleep(seconds)
    with ExitStack() as stack:
        clients = [(kind, stack.enter_context(client)) for kind, client in slow_clients(two, request_, kinds)]
        began = time.monotonic()
        with wire.OpenLoad(two.url, request_, judge, NORMAL_SHARE * capacity) as beside:
            time.sleep(seconds)
        ends = {(kind, status(client)) for kind, client in clients if kind != "reader"}
        wait_for(lambda: at_the_edge(two) == 0, "all are dropped")
        took = time.monotonic() - began
    assert ends == {(kind, "HTTP/1.1 408 Request Timeout") for kind in ("headers", "body")}
    assert {*alone.wrong, *beside.wrong} <= {"BUSY"}
    p99_alone, p99_beside = (percentile_ms(answered(load), 99) for load in (alone, beside))
    figures(
        f"{SLOW} slow clients beside half the load: {', '.join(kinds)}",
        {
            "normal p99 alone, ms": p99_alone,
            "normal p99 beside them, ms": p99_beside,
            "normal p99, beside / alone": round(p99_beside / p99_alone, 2),
            "normal, refused": beside.wrong.total(),
            "large files, refused": two.envoy(refusals) - refused,
            "all dropped after, s": round(took, 1),
        },
        at_most={"normal p99, beside / alone": 1.3, "normal, refused": 0, "all dropped after, s": 25},
    )


def test_stalled_uploads_block_others_only_briefly(
    two: RunningStack, figures: Figures, request_: bytes, *, long: bool
) -> None:
    """Envoy drops bodies early that would fill its memory and have stopped arriving; other requests succeed."""
    if not long:
        pytest.skip("needs a gigabyte and half a minute")
    head = request_.partition(b"Content-Length")[0] + b"Content-Length: 10000000\r\n\r\n"
    with wire.OpenLoad(two.url, request_, judge, 20) as normal, ExitStack() as stack:
        clients = [stack.enter_context(connect(two.url)) for _ in range(STALLED)]
        for client in clients:
            with suppress(OSError):  # refused before everything was sent
                client.sendall(head + bytes(9_000_000))
        wait_for(lambda: stat(two, IDLE_ENDS) > 0, "the first one is dropped")
        wait_for(lambda: at_the_edge(two) < STALLED / 2, "most are dropped")
    refused = sum(normal.wrong.values())
    figures(
        f"{STALLED} stalled uploads of 10 MB beside 20 requests/s",
        {
            "normal, refused, per cent": round(100 * refused / len(normal.requests), 1),
            "refused for, s": len({int(request.planned) for request in normal.requests if request.code}),
        },
        at_most={"refused for, s": 6},
    )
