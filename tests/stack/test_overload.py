"""More is asked than can be done: the service does what it can, says no to the rest at once, and then is as before."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import wire
from facet.command.load import percentile
from inference.settings import Settings
from PIL import Image

from protos import infer_pb2, infer_pb2_grpc
from tests.conftest import Figures, encode, wall_of_faces
from tests.stack.running import RunningStack, command_of, running_stack, wait_for
from tests.stack.test_bad_input import says
from tests.stack.under_load import nothing_is_rejected, percentile_ms

TIMES_CAPACITY = 5
SHORT_SECONDS, LONG_SECONDS = 8, 120
WORKERS = 2
CROWD = 8  # callers at once: the edge refuses who comes within a tenth of a second
EDGE_SAYS = "the service is busy; try again in a second"
JPEG = {"Content-Type": "image/jpeg"}
# MB of a process: what a worker takes for this picture anyway, and the others for bodies of 75 kB in each place.
MOST_MEMORY = {"worker": 300, "gateway": 200, "envoy": 300}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """One worker, for which one more may wait."""
    folder = tmp_path_factory.mktemp("small")
    patient = {"FACET_QUEUE_SECONDS": "15"}  # as long as a request may take, however slow this machine is
    with running_stack(folder / "logs", "--workers=1", FACET_QUEUE_PLACES="1", **patient) as running:
        yield running


def right_or_busy(expected: object) -> wire.Judge:
    """Make the judge for whom an answer is right, or BUSY when it has the form of a refusal."""
    right = wire.same_results(expected)

    def judge(answer: wire.Answer) -> str:
        if answer.status != httpx.codes.SERVICE_UNAVAILABLE:
            return right(answer)
        code = str(json.loads(answer.body)["code"])
        return code if answer.headers.get("retry-after") == "1" else f"{code} without Retry-After"

    return judge


def peak_memory(running: RunningStack) -> dict[str, float]:
    """Give the largest resident memory that a process of each tier has ever had, in megabytes."""
    peaks: dict[str, float] = {}
    for process in running.processes():
        command = " ".join(command_of(process))
        tier = "worker" if "inference" in command else "gateway" if "gunicorn" in command else "envoy"
        status = Path(f"/proc/{process.pid}/status").read_text()
        (kilobytes,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
        peaks[tier] = max(peaks.get(tier, 0), round(int(kilobytes) * 1.024e-3))
    return peaks


def test_five_times_the_capacity(tmp_path: Path, astronaut: Image.Image, figures: Figures, *, long: bool) -> None:
    """Each request is answered rightly or refused in the documented form, mostly by the edge; then all are answered."""
    seconds = LONG_SECONDS if long else SHORT_SECONDS
    picture = encode(astronaut.resize((640, 480)), "JPEG")
    request = wire.post("/predict", picture, JPEG["Content-Type"])
    with running_stack(tmp_path / "logs", f"--workers={WORKERS}") as stack:
        parts = set(stack.processes())
        first = httpx.post(f"{stack.url}/predict", content=picture, headers=JPEG, timeout=60)
        judge = right_or_busy(first.json()["results"])
        wire.capacity(stack.url, request, judge, seconds=2)  # until everybody is warm
        capacity = wire.capacity(stack.url, request, judge, seconds=seconds / 4)
        own = time.process_time()
        with wire.OpenLoad(stack.url, request, judge, TIMES_CAPACITY * capacity) as load:
            time.sleep(seconds)  # what is measured is what is done in this time
            ended = time.monotonic()
        own = time.process_time() - own
        answered = [request for request in load.requests if not request.code]
        refused = [request for request in load.requests if request.code == "BUSY"]
        assert set(load.wrong) == {"BUSY"}
        wait_for(lambda: nothing_is_rejected(stack.url, request), "no request is rejected")
        normal = time.monotonic() - ended - 0.5
        memory = peak_memory(stack)
        assert parts == set(stack.processes())  # nobody died of it
        by_workers = sum(1 for line in stack.log_lines("inference") if line.get("code") == "BUSY")
        assert by_workers < len(refused)  # the edge did the others
    in_time = sum(1 for request in answered if request.planned + request.latency <= seconds)
    figures(
        f"{TIMES_CAPACITY} times the capacity, {seconds} s",
        {
            "capacity, 1/s": round(capacity, 1),
            "goodput / capacity": round(in_time / seconds / capacity, 3),
            "offered / capacity": round(len(load.requests) / seconds / capacity, 2),
            "left late by, p99, ms": round(1000 * percentile(sorted(request.late for request in load.requests), 99), 1),
            "load's own CPUs": round(own / seconds, 3),
            "accepted p50, ms": percentile_ms(answered, 50),
            "accepted p99, ms": percentile_ms(answered, 99),
            "refused p50, ms": percentile_ms(refused, 50),
            "refused p99, ms": percentile_ms(refused, 99),
            "refused at the slowest, ms": percentile_ms(refused, 100),
            "refused by workers, per cent": round(100 * by_workers / len(refused), 1),
            "normal again after, s": round(max(normal, 0), 2),
            **{f"peak of a process of {tier}, MB": peak for tier, peak in memory.items()},
        },
        at_least={"goodput / capacity": 0.9},
        at_most={
            "accepted p99, ms": 1000 * Settings().queue_seconds,
            "refused p99, ms": 100,
            "normal again after, s": 5,
            **{f"peak of a process of {tier}, MB": most for tier, most in MOST_MEMORY.items()},
        },
    )


@contextmanager
def occupied(stack: RunningStack, *files: bytes) -> Iterator[None]:
    """Have the worker compute the first picture, and the others wait for it, past Envoy, while the block runs."""
    with grpc.insecure_channel(stack.shared) as channel:
        predict: Any = infer_pb2_grpc.InferenceStub(channel).Predict
        calls = []
        for file in files:
            calls.append(predict.future(infer_pb2.Image(raw_data=file), timeout=60))
            wait_for(lambda: in_flight(stack) == len(calls), "the worker has it")
        yield
        for call in calls:
            call.cancel()


def in_flight(stack: RunningStack) -> float:
    """Count the pictures that wait or are examined."""
    lines = httpx.get(stack.metrics_urls["inference"]).text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("facet_inference_in_flight "))


def test_a_deadline_ends_the_work(
    small: RunningStack, face: Image.Image, face_file: bytes, figures: Figures, *, long: bool
) -> None:
    """A caller who waits 200 ms gets 504 for a picture of a second, and the worker does not go on to its end."""
    crowd, ids = encode(wall_of_faces(face, 1800, 1400), "JPEG"), [f"hurry-{each}" for each in range(20 if long else 5)]
    took, free_after = [], []
    with httpx.Client(base_url=small.url, headers=JPEG, timeout=60) as http:
        whole = http.post("/predict", content=crowd).json()["metaData"]["milliseconds"]
        for name in ids:
            began = time.monotonic()
            late = http.post("/predict", content=crowd, headers={"X-Request-Timeout": "0.2", "X-Request-ID": name})
            took.append(1000 * (time.monotonic() - began))
            says(late, 504, "DEADLINE_EXCEEDED")
            following = http.post("/predict", content=face_file)
            free_after.append(following.json()["metaData"]["milliseconds"]["queue"])
    lines = [line for line in small.log_lines("inference") if line.get("request_id") in ids]
    assert {line["request_id"] for line in lines} == set(ids)
    assert "predict" not in [line["message"] for line in lines]  # none was computed to its end
    figures(
        "a deadline of 200 ms on a picture that takes longer",
        {
            "the whole picture, ms": round(sum(whole.values())),
            "504 after, ms, the slowest": round(max(took)),
            "the worker is free after another, ms": round(max(free_after)),
            "longest step, ms": round(max(whole.values())),
        },
        at_most={
            "504 after, ms, the slowest": 300,
            "the worker is free after another, ms": round(max(whole.values())),  # it stops within one step
        },
    )


def test_who_waits_in_vain_is_not_computed(
    small: RunningStack, slow_file: bytes, face_file: bytes, figures: Figures
) -> None:
    """A call whose time is over while it stands in the line is not begun when its turn would come."""
    with httpx.Client(base_url=small.url, headers=JPEG, timeout=60) as http:
        with occupied(small, slow_file):
            hurry = {"X-Request-Timeout": "0.2", "X-Request-ID": "in-vain"}
            says(http.post("/predict", content=face_file, headers=hurry), 504, "DEADLINE_EXCEEDED")
        assert http.post("/predict", content=face_file, headers={"X-Request-ID": "next"}).status_code == 200
    messages = {
        name: [line["message"] for line in small.log_lines("inference") if line.get("request_id") == name]
        for name in ("next", "in-vain")
    }
    assert messages["next"] == ["predict"]
    computed = messages["in-vain"].count("predict")
    figures("a call that expires while it waits", {"computed": computed}, at_most={"computed": 0})
    assert computed == 0


def test_the_edge_refuses_in_the_form_of_all_errors(small: RunningStack, slow_file: bytes, face_file: bytes) -> None:
    """503 BUSY with Retry-After over HTTP, RESOURCE_EXHAUSTED over gRPC; probes and pages pass."""

    def refused() -> bool:
        responses = list(crowd.map(lambda _: http.post("/predict", content=face_file), range(CROWD)))
        for response in responses:
            says(response, 503, "BUSY")
            assert response.headers["Retry-After"] == "1"
            assert "X-Workers-Busy" not in response.headers
        return EDGE_SAYS in [response.json()["message"] for response in responses]

    def refused_over_grpc() -> bool:
        predict: Any = infer_pb2_grpc.InferenceStub(channel).Predict
        calls = [predict.future(infer_pb2.Image(raw_data=face_file), timeout=60) for _ in range(CROWD)]
        assert {call.code() for call in calls} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        return EDGE_SAYS in [call.details() for call in calls]

    with (
        httpx.Client(base_url=small.url, headers=JPEG, timeout=60) as http,
        grpc.insecure_channel(small.edge) as channel,
        ThreadPoolExecutor(CROWD) as crowd,
    ):
        with occupied(small, slow_file, face_file):
            wait_for(refused, "the edge refuses")
            assert http.get("/healthz").status_code == 200
            assert http.get("/").status_code == 200
            wait_for(refused_over_grpc, "the edge refuses over gRPC")
        wait_for(lambda: http.post("/predict", content=face_file).status_code == 200, "the edge lets in again")
