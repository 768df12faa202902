"""Clients that leave, stall or do not read: they are let go on time, leave nothing, and cost the others little."""

from __future__ import annotations

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

LEAVERS = 1000
AT_ONCE = 50
ALL_PLACES = 2 * (1 + InferenceSettings().queue_places)  # of two workers
SLOW = 500
STALLED = 150
IDLE_ENDS = 'envoy_http_downstream_rq_idle_timeout{envoy_http_conn_manager_prefix="edge"}'
# Four answers of 1.7 MB: the kernel would take a single one off Envoy's hands.
LARGE_FILE = b"GET /static/swagger-ui-bundle.js HTTP/1.1\r\nHost: facet\r\n"
LARGE_FILES = 3 * (LARGE_FILE + b"\r\n") + LARGE_FILE + b"Connection: close\r\n\r\n"
HONEST_SHARE = 0.5  # of the capacity


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A stack with two workers, for these clients alone."""
    with running_stack(tmp_path_factory.mktemp("two") / "logs", "--workers=2") as running:
        yield running


@pytest.fixture(scope="module")
def picture(astronaut: Image.Image) -> bytes:
    """A JPEG of 640 x 480."""
    return encode(astronaut.resize((640, 480)), "JPEG")


@pytest.fixture(scope="module")
def request_(picture: bytes) -> bytes:
    """A whole request with it."""
    return wire.post("/predict", picture, "image/jpeg")


def connect(url: str, *, receives: int | None = None) -> socket.socket:
    """Connect to the host and port of an address; with `receives`, so few bytes are taken at a time."""
    client = socket.socket()
    if receives:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
    parts = urlsplit(url)
    client.settimeout(60)
    client.connect((parts.hostname, parts.port))
    return client


def held(stack: RunningStack) -> dict[int, tuple[int, int]]:
    """Give each process's threads and descriptors, without connections that stand: the tiers keep some to reuse."""
    found = {}
    for process in stack.processes():
        standing = [each for each in process.net_connections() if each.status == psutil.CONN_ESTABLISHED]
        found[process.pid] = (process.num_threads(), process.num_fds() - len(standing))
    return found


def settled(stack: RunningStack) -> dict[int, tuple[int, int]]:
    """Give the same when it is the same twice: a connection may end while it is counted."""
    counted = [held(stack)]

    def the_same_twice() -> bool:
        counted.append(held(stack))
        return counted[-1] == counted[-2]

    wait_for(the_same_twice, "threads and descriptors settle")
    return counted[-1]


def at_the_edge(stack: RunningStack) -> int:
    """Count the connections of clients, as Envoy does."""
    return stat(stack, 'envoy_http_downstream_cx_active{envoy_http_conn_manager_prefix="edge"}')


def stat(stack: RunningStack, name: str, tier: str = "envoy") -> int:
    lines = httpx.get(stack.metrics_urls[tier], timeout=60).text.splitlines()
    return sum(int(float(line.split()[-1])) for line in lines if line.startswith(name + " "))


def all_left(stack: RunningStack) -> bool:
    """Whether no tier has anything to do for anybody any more."""
    busy = stat(stack, "facet_http_requests_in_flight", "web") + stat(stack, "facet_inference_in_flight", "inference")
    return busy == 0 and at_the_edge(stack) == 0


def leave(stack: RunningStack, request: bytes, count: int) -> None:
    """Have so many clients go away, one half in mid-upload, the other in mid-wait, and wait until all tiers know."""
    for _ in range(0, count, AT_ONCE):
        with ExitStack() as clients:
            for number in range(AT_ONCE):
                client = clients.enter_context(connect(stack.url))
                client.sendall(request if number % 2 else request[: len(request) // 2])
            wait_for(lambda: at_the_edge(stack) == AT_ONCE, "Envoy has them")
    wait_for(lambda: all_left(stack), "all tiers know that they have gone")


def test_who_leaves_takes_nothing_along(two: RunningStack, figures: Figures, request_: bytes, *, long: bool) -> None:
    """After clients that left in mid-upload or mid-wait there are threads, descriptors and places as before."""
    wire.capacity(two.url, request_, judge, seconds=1)  # both workers know what they need
    leave(two, request_, 200)
    before, count = settled(two), LEAVERS if long else 300
    leave(two, request_, count)
    after: dict[int, tuple[int, int]] = {}

    def no_more_descriptors() -> bool:
        after.update(settled(two))
        return all(after[pid][1] <= before[pid][1] for pid in before)

    wait_for(no_more_descriptors, "no process holds more descriptors than before", every=1)
    assert after.keys() == before.keys()
    # gunicorn starts a thread for a request as long as it has fewer than it may have.
    gateways = {process.pid for gunicorn in two.gateways() for process in gunicorn.children()}
    more = {pid: after[pid][0] - before[pid][0] for pid in before}
    most = {pid: WebSettings().web_threads if pid in gateways else 2 for pid in before}
    assert all(more[pid] <= most[pid] for pid in before), more

    def all_places_are_free() -> bool:
        requests = wire.closed_load(two.url, request_, judge, callers=ALL_PLACES, seconds=0.5)
        return {request.code for request in requests} == {""}

    wait_for(all_places_are_free, "as many as there are places are all answered")
    figures(
        f"{count} clients leave in mid-upload or mid-wait",
        {
            "more threads, gateways": sum(more[pid] for pid in gateways),
            "more threads, others": sum(more[pid] for pid in before.keys() - gateways),
            "more descriptors": max(after[pid][1] - before[pid][1] for pid in before),
        },
        at_most={"more threads, others": 2, "more descriptors": 0},
    )


def judge(answer: wire.Answer) -> str:
    """Say that an answer is right when it is one, and else give its code."""
    return "" if answer.status == httpx.codes.OK else str(json.loads(answer.body)["code"])


def answered(load: wire.OpenLoad) -> list[Request]:
    """Give what was answered rightly."""
    return [request for request in load.requests if not request.code]


def test_callers_in_haste_cost_nobody_a_connection_or_a_worker(
    two: RunningStack, request_: bytes, picture: bytes, figures: Figures, *, long: bool
) -> None:
    """Deadlines that are over at once, and callers who leave at once: each is told, and the tiers stay connected.

    Told by a worker, a deadline would have it ejected; ended by the gateway, calls would end its connection.
    """
    counters = ("http.internal.downstream_cx_destroy", "cluster.inference.outlier_detection.ejections_enforced_total")
    before = [two.envoy(counter) for counter in counters]
    hasty = wire.post("/predict", picture, "image/jpeg", X_Request_Timeout="0.03")
    with wire.OpenLoad(two.url, request_, judge, 5) as honest:
        requests = wire.closed_load(two.url, hasty, judge, callers=16, seconds=30 if long else 3)
        calls = hasty_calls(two, picture, 300)
    leave(two, request_, 1200)
    assert {request.code for request in requests} <= {"", "DEADLINE_EXCEEDED", "BUSY"}
    assert set(calls) <= {grpc.StatusCode.OK, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert set(honest.wrong) <= {"BUSY"}
    ended = [two.envoy(counter) - count for counter, count in zip(counters, before, strict=True)]
    late = [request for request in requests if request.code == "DEADLINE_EXCEEDED"]
    figures(
        "callers in haste: 16 with a deadline of 30 ms each, then 1200 who leave",
        {
            "requests": len(requests),
            "504": len(late),
            "504 p99, ms": percentile_ms(late, 99),
            "honest, refused": honest.wrong.total(),
            "connections of the gateway that ended": ended[0],
            "ejections": ended[1],
        },
        at_most={"connections of the gateway that ended": 0, "ejections": 0},
    )
    assert ended == [0, 0]


def hasty_calls(stack: RunningStack, picture: bytes, count: int) -> list[grpc.StatusCode]:
    """Call over gRPC, in turns for one picture and with a stream, each with a deadline of 30 ms."""
    image, statuses = infer_pb2.Image(raw_data=picture), []
    with grpc.insecure_channel(stack.edge) as channel:
        stub = infer_pb2_grpc.InferenceStub(channel)
        for _ in range(count // 2):
            call, stream = stub.Predict.future(image, timeout=0.03), stub.PredictStream(iter([image]), timeout=0.03)
            statuses += [call.code(), stream.code()]
    return statuses


def slow_clients(stack: RunningStack, request: bytes, kinds: Sequence[str]) -> Iterator[tuple[str, socket.socket]]:
    """Give clients, of the kinds by turns: who send half of their headers, half of a body, or do not read."""
    sent = {"headers": request.partition(b"\r\n\r\n")[0], "body": request[: len(request) // 2], "reader": LARGE_FILES}
    for kind in islice(cycle(kinds), SLOW):
        client = connect(stack.url, receives=4096)
        client.sendall(sent[kind])
        yield kind, client


def status(client: socket.socket) -> str:
    """Read until the connection is closed, and give the status of the answer."""
    with client.makefile("rb") as answer:
        return answer.read().partition(b"\r\n")[0].decode()


def test_slow_clients_are_let_go_and_cost_the_others_little(
    two: RunningStack, figures: Figures, request_: bytes, *, long: bool
) -> None:
    """Each is told, or cut off, when its time is over; an honest one is answered, or told that it is too many."""
    kinds = ("headers", "body", "reader") if long else ("headers", "body")
    seconds = 14 if long else 5
    refusals = "large_files.http_local_rate_limit.rate_limited"
    refused = two.envoy(refusals)
    capacity = wire.capacity(two.url, request_, judge, seconds=3)
    with wire.OpenLoad(two.url, request_, judge, HONEST_SHARE * capacity) as alone:
        time.sleep(seconds)
    with ExitStack() as stack:
        clients = [(kind, stack.enter_context(client)) for kind, client in slow_clients(two, request_, kinds)]
        began = time.monotonic()
        with wire.OpenLoad(two.url, request_, judge, HONEST_SHARE * capacity) as beside:
            time.sleep(seconds)
        ends = {(kind, status(client)) for kind, client in clients if kind != "reader"}
        wait_for(lambda: at_the_edge(two) == 0, "all are let go")
        took = time.monotonic() - began
    assert ends == {(kind, "HTTP/1.1 408 Request Timeout") for kind in ("headers", "body")}
    assert {*alone.wrong, *beside.wrong} <= {"BUSY"}
    p99_alone, p99_beside = (percentile_ms(answered(load), 99) for load in (alone, beside))
    figures(
        f"{SLOW} slow clients beside half the load: {', '.join(kinds)}",
        {
            "honest p99 alone, ms": p99_alone,
            "honest p99 beside them, ms": p99_beside,
            "honest p99, beside / alone": round(p99_beside / p99_alone, 2),
            "honest, refused": beside.wrong.total(),
            "large files, refused": two.envoy(refusals) - refused,
            "all let go after, s": round(took, 1),
        },
        at_most={"honest p99, beside / alone": 1.3, "honest, refused": 0, "all let go after, s": 25},
    )


def test_stalled_uploads_do_not_close_the_door_for_long(
    two: RunningStack, figures: Figures, request_: bytes, *, long: bool
) -> None:
    """Bodies that would fill Envoy's memory and stop arriving are given up early, and the others are answered."""
    if not long:
        pytest.skip("it takes a gigabyte and half a minute")
    head = request_.partition(b"Content-Length")[0] + b"Content-Length: 10000000\r\n\r\n"
    with wire.OpenLoad(two.url, request_, judge, 20) as honest, ExitStack() as stack:
        clients = [stack.enter_context(connect(two.url)) for _ in range(STALLED)]
        for client in clients:
            with suppress(OSError):  # refused before all was sent
                client.sendall(head + bytes(9_000_000))
        wait_for(lambda: stat(two, IDLE_ENDS) > 0, "the first one is given up")
        wait_for(lambda: at_the_edge(two) < STALLED / 2, "most are let go")
    refused = sum(honest.wrong.values())
    figures(
        f"{STALLED} stalled uploads of 10 MB beside 20 requests/s",
        {
            "honest, refused, per cent": round(100 * refused / len(honest.requests), 1),
            "refused for, s": len({int(request.planned) for request in honest.requests if request.code}),
        },
        at_most={"refused for, s": 6},
    )
