"""The load generator of the benchmarks."""

import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from wire import OpenLoad, capacity, closed_load, post, same_results

from tests.stack.running import wait_for

RIGHT = same_results([7])


class StandInService(BaseHTTPRequestHandler):
    """Gives the answer that the path names."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/break-off":
            self.close_connection = True
            return
        answer = json.dumps({"results": [len(body)], "code": "BUSY"}).encode()
        self.send_response(503 if self.path == "/busy" else 200)
        self.send_header("Content-Length", str(len(answer)))
        if self.path == "/close":
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def standing_in() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), StandInService) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("path", "size", "wrong"),
    [
        ("/", 7, ""),
        ("/close", 7, ""),
        ("/", 8, "other faces"),
        ("/busy", 7, "503 BUSY"),
        ("/break-off", 7, "no answer: closed before the answer"),
    ],
)
def test_each_answer_is_judged(path: str, size: int, wrong: str) -> None:
    """A correct answer, other faces, a rejection and a missing answer are told apart."""
    with standing_in() as url:
        requests = closed_load(url, post(path, b"x" * size, "image/png"), RIGHT, callers=2, seconds=0.2)
    assert len(requests) >= 2
    assert {request.code for request in requests} == {wrong}


def test_a_refused_connection_is_no_answer() -> None:
    """A closed port counts as a missing answer."""
    with standing_in() as url:
        pass
    (request, *_) = closed_load(url, post("/", b"", "image/png"), RIGHT, callers=1, seconds=0.2)
    assert request.code.startswith("no answer: ")


def test_open_load_has_its_rate_whatever_the_answers() -> None:
    """The planned times are a Poisson process: their rate is the given one, and their gaps vary."""
    with standing_in() as url, OpenLoad(url, post("/busy", b"x" * 7, "image/png"), RIGHT, rate=200) as load:
        wait_for(lambda: len(load.requests) > 400, "400 answers")
    planned = sorted(request.planned for request in load.requests)
    assert len(planned) / planned[-1] == pytest.approx(200, rel=0.25)
    gaps = sorted(after - before for before, after in itertools.pairwise(planned))
    assert gaps[len(gaps) // 10] < 0.002
    assert gaps[-len(gaps) // 10] > 0.008
    assert load.wrong == {"503 BUSY": len(planned)}


def test_capacity_counts_correct_answers_only() -> None:
    """A wrong answer is an error."""
    with standing_in() as url:
        assert capacity(url, post("/", b"x" * 7, "image/png"), RIGHT, seconds=0.2) > 1
        with pytest.raises(ValueError, match="503 BUSY"):
            capacity(url, post("/busy", b"x" * 7, "image/png"), RIGHT, seconds=0.2)
