"""Under overload, the service answers what it can, rejects the rest at once, and then recovers."""

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
CALLERS = 8  # at once: the edge rejects requests that arrive within a tenth of a second
EDGE_MESSAGE = "the service is busy; try again in a second"
JPEG = {"Content-Type": "image/jpeg"}
# MB per process: a worker needs as much for one such image, the others for a body of 75 kB in each place.
MAX_MEMORY = {"worker": 300, "gateway": 200, "envoy": 300}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A stack with one worker, at which one request may wait."""
    folder = tmp_path_factory.mktemp("small")
    patient = {"FACET_QUEUE_SECONDS": "15"}  # the deadline: on a busy machine, 5 s may be too short
    with running_stack(folder / "logs", "--workers=1", FACET_QUEUE_PLACES="1", **patient) as running:
        yield running


def right_or_busy(expected: object) -> wire.Judge:
    """Return a judge that gives BUSY for a complete rejection, and expects these results otherwise."""
    right = wire.same_results(expected)

    def judge(answer: wire.Answer) -> str:
        if answer.status != httpx.codes.SERVICE_UNAVAILABLE:
            return right(answer)
        code = str(json.loads(answer.body)["code"])
        return code if answer.headers.get("retry-after") == "1" else f"{code} without Retry-After"

    return judge


def peak_memory(running: RunningStack) -> dict[str, float]:
    """Return the peak resident memory of a process of each tier, in megabytes."""
    peaks: dict[str, float] = {}
    for process in running.processes():
        command = " ".join(command_of(process))
        tier = "worker" if "inference" in command else "gateway" if "gunicorn" in command else "envoy"
        status = Path(f"/proc/{process.pid}/status").read_text()
        (kilobytes,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
        peaks[tier] = max(peaks.get(tier, 0), round(int(kilobytes) * 1.024e-3))
    return peaks


def test_at_five_times_the_capacity_requests_are_answered_or_rejected(
    tmp_path: Path, astronaut: Image.Image, figures: Figures, *, long: bool
) -> None:
    """Every answer is correct or a documented rejection, mostly by the edge; afterwards all requests are answered."""
    seconds = LONG_SECONDS if long else SHORT_SECONDS
    image = encode(astronaut.resize((640, 480)), "JPEG")
    request = wire.post("/predict", image, JPEG["Content-Type"])
    with running_stack(tmp_path / "logs", f"--workers={WORKERS}") as stack:
        parts = set(stack.processes())
        first = httpx.post(f"{stack.url}/predict", content=image, headers=JPEG, timeout=60)
        judge = right_or_busy(first.json()["results"])
        wire.capacity(stack.url, request, judge, seconds=2)  # warm up
        capacity = wire.capacity(stack.url, request, judge, seconds=seconds / 4)
        own = time.process_time()
        with wire.OpenLoad(stack.url, request, judge, TIMES_CAPACITY * capacity) as load:
            time.sleep(seconds)  # the duration that is measured
            ended = time.monotonic()
        own = time.process_time() - own
        answered = [request for request in load.requests if not request.code]
        refused = [request for request in load.requests if request.code == "BUSY"]
        assert set(load.wrong) == {"BUSY"}
        wait_for(lambda: nothing_is_rejected(stack.url, request), "no request is rejected")
        normal = time.monotonic() - ended - 0.5
        memory = peak_memory(stack)
        assert parts == set(stack.processes())  # no process died
        by_workers = sum(1 for line in stack.log_lines("inference") if line.get("code") == "BUSY")
        assert by_workers < len(refused)  # the edge rejected the others
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
            **{f"peak of a process of {tier}, MB": most for tier, most in MAX_MEMORY.items()},
        },
    )


@contextmanager
def occupied(stack: RunningStack, *files: bytes) -> Iterator[None]:
    """Keep the worker busy with the first image during the block, and let the others wait, without Envoy."""
    with grpc.insecure_channel(stack.shared) as channel:
        predict: Any = infer_pb2_grpc.InferenceStub(channel).Predict
        calls = []
        for file in files:
            calls.append(predict.future(infer_pb2.Image(raw_data=file), timeout=60))
            wait_for(lambda: in_flight(stack) == len(calls), "the worker has the image")
        yield
        for call in calls:
            call.cancel()


def in_flight(stack: RunningStack) -> float:
    """Count the requests at the worker."""
    lines = httpx.get(stack.metrics_urls["inference"]).text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("facet_inference_in_flight "))


def test_a_deadline_ends_the_work(
    small: RunningStack, face: Image.Image, face_file: bytes, figures: Figures, *, long: bool
) -> None:
    """A caller that waits 200 ms gets 504 for a slow image, and the worker stops examining it."""
    slow, ids = encode(wall_of_faces(face, 1800, 1400), "JPEG"), [f"hurry-{each}" for each in range(20 if long else 5)]
    took, free_after = [], []
    with httpx.Client(base_url=small.url, headers=JPEG, timeout=60) as http:
        whole = http.post("/predict", content=slow).json()["metaData"]["milliseconds"]
        for name in ids:
            began = time.monotonic()
            late = http.post("/predict", content=slow, headers={"X-Request-Timeout": "0.2", "X-Request-ID": name})
            took.append(1000 * (time.monotonic() - began))
            says(late, 504, "DEADLINE_EXCEEDED")
            following = http.post("/predict", content=face_file)
            free_after.append(following.json()["metaData"]["milliseconds"]["queue"])
    lines = [line for line in small.log_lines("inference") if line.get("request_id") in ids]
    assert {line["request_id"] for line in lines} == set(ids)
    assert "predict" not in [line["message"] for line in lines]  # none was examined to its end
    figures(
        "a deadline of 200 ms on an image that takes longer",
        {
            "the whole image, ms": round(sum(whole.values())),
            "504 after, ms, the slowest": round(max(took)),
            "the worker is free after another, ms": round(max(free_after)),
            "longest step, ms": round(max(whole.values())),
        },
        at_most={
            "504 after, ms, the slowest": 300,
            "the worker is free after another, ms": round(max(whole.values())),  # it stops within one step
        },
    )


def test_a_request_that_expires_in_the_queue_is_not_examined(
    small: RunningStack, slow_file: bytes, face_file: bytes, figures: Figures
) -> None:
    """The worker does not begin a request whose deadline has passed while it waited."""
    with httpx.Client(base_url=small.url, headers=JPEG, timeout=60) as http:
        with occupied(small, slow_file):
            hurry = {"X-Request-Timeout": "0.2", "X-Request-ID": "expired"}
            says(http.post("/predict", content=face_file, headers=hurry), 504, "DEADLINE_EXCEEDED")
        assert http.post("/predict", content=face_file, headers={"X-Request-ID": "next"}).status_code == 200
    messages = {
        name: [line["message"] for line in small.log_lines("inference") if line.get("request_id") == name]
        for name in ("next", "expired")
    }
    assert messages["next"] == ["predict"]
    computed = messages["expired"].count("predict")
    figures("a call that expires while it waits", {"computed": computed}, at_most={"computed": 0})
    assert computed == 0


def test_the_edge_rejects_in_the_form_of_all_errors(small: RunningStack, slow_file: bytes, face_file: bytes) -> None:
    """The rejection is 503 BUSY with Retry-After over HTTP and RESOURCE_EXHAUSTED over gRPC; probes and pages pass."""

    def rejected() -> bool:
        responses = list(pool.map(lambda _: http.post("/predict", content=face_file), range(CALLERS)))
        for response in responses:
            says(response, 503, "BUSY")
            assert response.headers["Retry-After"] == "1"
            assert "X-Workers-Busy" not in response.headers
        return EDGE_MESSAGE in [response.json()["message"] for response in responses]

    def rejected_over_grpc() -> bool:
        predict: Any = infer_pb2_grpc.InferenceStub(channel).Predict
        calls = [predict.future(infer_pb2.Image(raw_data=face_file), timeout=60) for _ in range(CALLERS)]
        assert {call.code() for call in calls} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        return EDGE_MESSAGE in [call.details() for call in calls]

    with (
        httpx.Client(base_url=small.url, headers=JPEG, timeout=60) as http,
        grpc.insecure_channel(small.edge) as channel,
        ThreadPoolExecutor(CALLERS) as pool,
    ):
        with occupied(small, slow_file, face_file):
            wait_for(rejected, "the edge rejects")
            assert http.get("/healthz").status_code == 200
            assert http.get("/").status_code == 200
            wait_for(rejected_over_grpc, "the edge rejects over gRPC")
        wait_for(lambda: http.post("/predict", content=face_file).status_code == 200, "the edge admits requests again")
