"""What the benchmarks calculate, and when they refuse to compare or to write."""

import json
import math
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
from whole_path.alone import NAME
from whole_path.figures import Figure, busiest_over_idlest, over, percentile, rank, targets
from whole_path.images import SampleImage
from whole_path.load import Box, Request, closed_load, first_answers, require_same_faces, share_of_busiest
from whole_path.overhead import EVEN, RANDOM, WHOLE
from whole_path.pages import target_table
from whole_path.scaling import needs
from whole_path.stacks import CannotCompare, Stack
from wire import post

ROOT = Path(__file__).parents[1]


def test_a_quick_run_does_not_write_the_real_pages() -> None:
    """It is refused before anything is measured."""
    command = [sys.executable, "benchmarks/path.py", "--quick", "--docs=docs/../docs"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--quick measures too little" in done.stderr


def test_part_of_a_run_makes_no_page(tmp_path: Path) -> None:
    """The error names the missing part, and no page is written."""
    (tmp_path / "path.json").write_text(json.dumps({"machine": "", "side_by_side": {}, "scale": {}}))
    command = [sys.executable, "benchmarks/path.py", "--pages-only", f"--results={tmp_path}", f"--docs={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: the run has ended before it measured overhead: measure again\n"
    assert [file.name for file in tmp_path.iterdir()] == ["path.json"]


def sample(rate: float, milliseconds: float, count: int = 100, **cpu: float) -> dict[str, Any]:
    """Return a round in which all requests took the same time."""
    return {"rate": rate, "latencies": {"640x480, one face": [milliseconds] * count}, "cpu": cpu}


def cell(stack: str, round_: dict[str, Any]) -> dict[str, Any]:
    return {"stack": stack, "size": "640x480", "callers": 8} | round_


def small_run() -> dict[str, Any]:
    """Return two rounds with round numbers; one target is missed."""
    baseline = [cell("baseline", sample(rate, 1000, start=200)) for rate in (5, 10)]
    facet = [cell("facet", sample(100, waited, envoy=1, web=2, inference=17)) for waited in (50, 100)]
    whole = [sample(99, 22.04, envoy=1, web=2, inference=20)] * 2
    alone = [sample(100, 18, **{NAME: 18})] * 2
    tails = {when: [{"latencies": [10] * 98 + [worst] * 2}] * 2 for when, worst in ((RANDOM, 30.6), (EVEN, 30.4))}
    return {
        "side_by_side": {
            "workers": 2,
            "cells": baseline + facet,
            "memory": {"baseline, 2": 1200, "facet, 2": 400},
            "bytes": {"640x480, one face": 125_000},
        },
        "overhead": {
            "image": "640x480, one face",
            "one_caller": {WHOLE: whole, NAME: alone},
            "busy": {WHOLE: whole, NAME: alone},
            "loaded": tails,
            "ideal": [10, 29],
        },
    }


def test_each_target_says_whether_it_is_met() -> None:
    """A target is compared with the rounded figure; at random times, the table adds the figure of a perfect queue."""
    rows = [line.strip("| ").split(" | ")[3:] for line in target_table(small_run()).splitlines()[2:]]
    assert rows == [
        ["10.0x", "yes, and the goal"],
        ["15.0x (10.0 to 20.0)", "yes, and the goal"],
        ["15.0x (10.0 to 20.0)", "yes, and the goal"],
        ["3.0x", "yes"],
        ["99.0 %", "yes, and the goal"],
        ["4.0 ms", "yes"],
        ["3.1x", "**falls short**; a perfect queue has 2.9x"],
        ["3.0x", "yes"],
    ]


def test_p99_of_few_answers_is_that_of_all_rounds() -> None:
    """A round with fewer than a hundred answers has no p99 of its own."""
    few = small_run()
    few["side_by_side"]["cells"][0]["latencies"] = {"640x480, one face": [900] * 99}
    assert targets(few)[2].got == Figure.of([10])


def test_figures_of_known_numbers() -> None:
    """Percentiles, ratios per round and the evenness of a spread have known values."""
    hundred = [float(number) for number in range(1, 101)]
    assert [percentile(hundred, each) for each in (50, 95, 99)] == [50, 95, 99]
    assert (rank(hundred, 99), rank(hundred[1:], 99), rank(hundred[:20], 95)) == ("99", "-", "19")
    assert over([2, 9, 4], [1, 3, 1]) == Figure(3, 2, 4)
    assert busiest_over_idlest({"a": 6, "b": 4}, 2) == 1.5
    assert busiest_over_idlest({"a": 6}, 2) == math.inf
    assert share_of_busiest({1: 5.0, 2: 1.0}, {1: 6.0, 2: 1.0, 3: 3.0}) == 0.75


def test_needs_follow_from_the_costs() -> None:
    """20 ms for inference, 2 for web and 1 for Envoy, with the pods of the production overlay."""
    said = needs(small_run())
    assert "| worker | 50 |\n| gateway process | 500 |\n| Envoy CPU | 1,000 |" in said
    assert "| 100 | 2.0 | 0.2 | 0.1 | 3 | 3 | 4 | 51 | 0.2 |" in said
    assert "| 10,000 | 200.0 | 20.0 | 10.0 | 72 | 29 | 10 | 1,224 | 20.0 |" in said
    text = " ".join(said.split())
    assert "handles 2,800 images/s (20 of inference 2,800, 12 of web 4,200, 4 of Envoy 4,000)." in text
    assert "10,000 images/s need 4 such stacks" in text


def test_faces_are_the_same_when_each_has_its_box() -> None:
    """Boxes may differ in order and by a few pixels, and each matches one other box."""
    one: Box = (10, 10, 50, 60)
    other: Box = (100, 10, 150, 60)
    require_same_faces({"image": [one, other]}, {"image": [(102, 12, 148, 62), (8, 13, 52, 58)]})
    for others in ([one], [one, one], [one, other, one], [one, (100, 10, 150, 66)]):
        with pytest.raises(CannotCompare, match="image: only one of both"):
            require_same_faces({"image": [one, other]}, {"image": others})


class StandInWithoutFaces(BaseHTTPRequestHandler):
    """A stack with one path that never finds a face."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        answer = b'{"results": []}'
        self.send_response(200 if self.path == "/predict" else 404)
        self.send_header("Content-Length", str(len(answer)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def without_faces() -> Iterator[Stack]:
    with HTTPServer(("127.0.0.1", 0), StandInWithoutFaces) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Stack("stand-in", server.server_port, 0, psutil.Process(), 0.0)
        finally:
            server.shutdown()
            thread.join()


def test_a_stack_that_finds_other_faces_is_not_compared(without_faces: Stack) -> None:
    """A missing face ends the run."""
    data = post("/predict", b"an image", "image/jpeg")
    counted = closed_load(without_faces, [Request("none", data, 0)], 2, 0.05, fewest=20)
    assert counted.rate > 0
    assert len(counted.latencies["none"]) >= 20
    with pytest.raises(CannotCompare, match="one face, 1 faces expected: 200"):
        closed_load(without_faces, [Request("one face", data, 1)], 1, 0.05)


def test_a_stack_that_does_not_answer_is_not_compared(without_faces: Stack) -> None:
    """Another status or a refused connection ends the run."""
    with pytest.raises(CannotCompare, match="one face, 0 faces expected: 404"):
        closed_load(without_faces, [Request("one face", post("/no", b"", "image/jpeg"), 0)], 1, 0.05)
    with pytest.raises(CannotCompare, match="640x480, none: no answer"):
        first_answers(Stack("gone", 1, 0, psutil.Process(), 0.0), [SampleImage("640x480", "none", b"")])
