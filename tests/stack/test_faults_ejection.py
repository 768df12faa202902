"""Envoy ejects a worker that answers UNAVAILABLE, and does not eject one with a slow image."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from PIL import Image

from protos import infer_pb2, infer_pb2_grpc
from tests.conftest import Figures, all_candidates, encode
from tests.stack.running import RunningStack, running_stack, wait_for
from tests.stack.under_load import load_on, lost, measured

HEALTHY = "cluster.inference.membership_healthy"
CALLS = "cluster.inference.upstream_rq_total"
EJECTIONS = "cluster.inference.outlier_detection.ejections_enforced_total"


class StandInWorker(infer_pb2_grpc.InferenceServicer):
    """Reports SERVING, and answers UNAVAILABLE to every request until it is `well`; then it asks a real worker."""

    def __init__(self, real: grpc.Channel) -> None:
        self.rejected = 0
        self.well = False
        self.answered_at = 0.0
        self._real = infer_pb2_grpc.InferenceStub(real)

    def Predict(  # noqa: N802
        self, request: infer_pb2.Image, context: grpc.ServicerContext
    ) -> infer_pb2.InferResults:
        if not self.well:
            self.rejected += 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "not well")
        answer = self._real.Predict(request, timeout=60)
        self.answered_at = self.answered_at or time.monotonic()
        return answer

    def PredictStream(self, *_: object) -> NoReturn:  # noqa: N802 - not called
        raise NotImplementedError


@contextmanager
def unavailable_worker(stack: RunningStack) -> Iterator[StandInWorker]:
    """Add a stand-in to the four real workers."""
    address, real = stack.own(16), stack.own(stack.serving_slots()[0])
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.http2.max_ping_strikes", 0)])
    with grpc.insecure_channel(real) as channel:
        worker, servicer = StandInWorker(channel), health.HealthServicer()
        infer_pb2_grpc.add_InferenceServicer_to_server(worker, server)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        servicer.set("Inference", health_pb2.HealthCheckResponse.SERVING)
        server.add_insecure_port(address)
        server.start()
        try:
            yield worker
        finally:
            servicer.set("Inference", health_pb2.HealthCheckResponse.NOT_SERVING)
            wait_for(lambda: stack.envoy(HEALTHY) <= 4, "Envoy stops using it")
            server.stop(10).wait()


def test_a_worker_that_answers_unavailable_gets_few_requests_and_loses_none(
    processes: RunningStack, astronaut_file: bytes, figures: Figures, *, long: bool
) -> None:
    """Although it is the least busy worker, the others answer until it is well again."""
    wait_for(lambda: processes.envoy(HEALTHY) == 4, "4 workers serve")
    with load_on(processes.url, astronaut_file, long=long) as load:
        before, ejections = processes.envoy(CALLS), processes.envoy(EJECTIONS)
        with unavailable_worker(processes) as stand_in:
            wait_for(lambda: processes.envoy(EJECTIONS) > ejections, "it is ejected")
            time.sleep(30 if long else 2)
            calls = processes.envoy(CALLS) - before
            requests = len(load.requests)
            stand_in.well, well = True, time.monotonic()
            wait_for(lambda: stand_in.answered_at, "it answers again")
        left = time.monotonic()
        wait_for(lambda: len(load.since(left)) > 20, "20 more answers")
    found = measured(load) | {
        "refused_by_it": stand_in.rejected,
        "calls_per_request": round(calls / requests, 2),
        "heals_after_s": round(stand_in.answered_at - well, 1),
    }
    figures("a worker answers UNAVAILABLE", found, at_most={"lost": 0, "calls_per_request": 1.5, "heals_after_s": 5})
    assert lost(load) == {}
    assert found["calls_per_request"] <= 1.5


def test_a_slow_image_is_examined_once_and_its_worker_is_not_ejected(
    tmp_path: Path, figures: Figures, *, long: bool
) -> None:
    """The worker ends each examination at its own deadline."""
    image = encode(Image.fromarray(all_candidates(4000, 3000)))
    slow = infer_pb2.Image(raw_data=image, options=infer_pb2.DetectOptions(min_face_size=12))
    requests, deadline = 4, 15 if long else 1
    with running_stack(tmp_path / "logs", "--workers=1", FACET_DEADLINE_SECONDS=str(deadline)) as one:
        before = one.envoy(CALLS)
        with grpc.insecure_channel(one.edge) as channel:
            stub = infer_pb2_grpc.InferenceStub(channel)
            statuses = [stub.Predict.future(slow).code() for _ in range(requests)]
        found = {
            "requests": requests,
            "deadline_s": deadline,
            "calls": one.envoy(CALLS) - before,
            "ejections": one.envoy(EJECTIONS),
        }
        figures("images slower than the deadline", found, at_most={"calls": requests, "ejections": 0})
        assert statuses == [grpc.StatusCode.DEADLINE_EXCEEDED] * requests
        assert (found["calls"], found["ejections"]) == (requests, 0)
