"""The life of a worker: its health, its ports, and how it starts, drains, stalls and hangs."""

import asyncio
import os
import socket
import subprocess
import sys
import threading
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from inference.mtcnn.detector import Detector
from inference.process.system import CannotStart
from inference.process.watchdog import EXIT_HUNG
from inference.process.worker import Worker

from protos import infer_pb2, infer_pb2_grpc
from tests.inference.worker_in_process import (
    NOT_SERVING,
    SERVING,
    WORKER_ID,
    StandIn,
    refused,
    running_worker,
    serving_worker,
)
from tests.stack.running import free_base_port, wait_for


def test_it_serves_only_after_the_model_is_loaded() -> None:
    """Until then health checks give NOT_SERVING and Predict UNAVAILABLE."""

    async def main() -> None:
        loaded = threading.Event()
        async with running_worker(lambda: loaded.wait(60)) as worker:
            assert [await worker.health(name) for name in ("", "Inference")] == [NOT_SERVING, NOT_SERVING]
            with refused(grpc.StatusCode.UNAVAILABLE, "loading its model"):
                await worker.stub.Predict(infer_pb2.Image(raw_data=b"x"))
            loaded.set()
            await worker.becomes(SERVING)
            assert await worker.health("") == SERVING

    asyncio.run(main())


def test_health_does_not_wait_behind_an_inference(face_file: bytes) -> None:
    """A check is answered while an inference runs and the queue is full."""

    async def main() -> None:
        async with serving_worker(queue_places=2) as worker:
            worker.engine.go.clear()
            calls = [worker.stub.Predict(infer_pb2.Image(raw_data=face_file)) for _ in range(3)]
            await worker.until(worker.engine.entered.is_set)
            assert await worker.health() == SERVING
            worker.engine.go.set()
            assert all([len((await call).results) == 3 for call in calls])

    asyncio.run(main())


def test_a_worker_is_not_serving_while_an_inference_stalls(face_file: bytes) -> None:
    """It serves again when that inference has ended."""

    async def main() -> None:
        async with serving_worker(stall_seconds=0.2) as worker:
            worker.engine.go.clear()
            call = worker.stub.Predict(infer_pb2.Image(raw_data=face_file))
            await worker.becomes(NOT_SERVING)
            worker.engine.go.set()
            assert len((await call).results) == 3
            await worker.becomes(SERVING)

    asyncio.run(main())


def test_a_draining_worker_is_not_serving_and_still_answers(face_file: bytes) -> None:
    """Health checks report it at once; running and new calls are answered."""

    async def main() -> None:
        async with serving_worker() as worker:
            worker.engine.go.clear()
            running = worker.stub.Predict(infer_pb2.Image(raw_data=face_file))
            await worker.until(worker.engine.entered.is_set)
            worker.worker.stop()
            await worker.becomes(NOT_SERVING)
            late = worker.stub.Predict(infer_pb2.Image(raw_data=face_file))
            await worker.until(lambda: worker.worker.queue.waiting == 1)
            worker.engine.go.set()
            assert [len((await call).results) for call in (running, late)] == [3, 3]

    asyncio.run(main())


def test_the_shared_port_is_open_only_while_it_serves(face_file: bytes) -> None:
    """The kernel gives connections to every listening worker, so loading and draining workers must not listen."""

    async def main() -> None:
        loaded = threading.Event()
        async with running_worker(lambda: loaded.wait(60)) as worker:
            shared = f"127.0.0.1:{worker.settings.port}"
            assert not _listens(worker.settings.port)
            loaded.set()
            await worker.becomes(SERVING)
            async with grpc.aio.insecure_channel(shared) as channel:
                answer: Any = await infer_pb2_grpc.InferenceStub(channel).Predict(infer_pb2.Image(raw_data=face_file))
                assert len(answer.results) == 3
            worker.worker.stop()
            await worker.becomes(NOT_SERVING)
            await worker.until(lambda: not _listens(worker.settings.port))

    asyncio.run(main())


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# A worker in its own process, whose engine never returns.
HANGING_WORKER = """
import asyncio, sys, threading
from telemetry import logs
from inference.mtcnn.detector import Detector
from inference.settings import Settings
from inference.process.watchdog import EXIT_HUNG
from inference.process.worker import Worker
class Hanging:
    name = device = "hanging"
    def find_faces(self, *_):
        threading.Event().wait()
logs.configure("INFO", tier="inference", part="worker")
async def main():
    await Worker(Settings(), 0, "0", lambda _: Detector(Hanging()), 1).run()
asyncio.run(main())
"""


def test_an_inference_that_hangs_ends_the_worker(face_file: bytes) -> None:
    """It ends with a separate exit code, and the log has the id of the request."""
    base = free_base_port()
    settings = {"FACET_HOST": "127.0.0.1", "FACET_PORT": str(base), "FACET_WORKER_PORT": str(base + 1)}
    worker = subprocess.Popen(
        [sys.executable, "-c", HANGING_WORKER],
        env=os.environ | settings | {"FACET_STALL_SECONDS": "0.5", "FACET_HANG_SECONDS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        with grpc.insecure_channel(f"127.0.0.1:{base + 1}") as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            ask = health_pb2.HealthCheckRequest(service="Inference")
            wait_for(lambda: health.Check(ask, wait_for_ready=True, timeout=60).status == SERVING, "it serves")
            with pytest.raises(grpc.RpcError):
                infer_pb2_grpc.InferenceStub(channel).Predict(
                    infer_pb2.Image(raw_data=face_file), metadata=(("x-request-id", "poison"),)
                )
        output, _ = worker.communicate(timeout=60)
    finally:
        worker.kill()
        worker.wait()
    assert worker.returncode == EXIT_HUNG
    assert '"message": "the inference hangs; the worker is exiting", "request_id": "poison"' in output


def test_two_workers_cannot_share_an_own_port() -> None:
    """A second worker of a slot cannot start while the first one runs."""

    async def main() -> None:
        async with serving_worker() as worker:
            twin = Worker(worker.settings, 0, WORKER_ID, lambda *_: Detector(StandIn()), 1)
            with pytest.raises(CannotStart, match=worker.worker.address):
                await twin.run()

    asyncio.run(main())


def test_reflection_lists_the_service() -> None:
    """With it, grpcurl needs no .proto file."""

    async def main() -> None:
        async with serving_worker() as worker:
            channel: Any = worker.channel  # the stubs are typed for a synchronous channel
            stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
            ask = reflection_pb2.ServerReflectionRequest(list_services="")
            async for answer in stub.ServerReflectionInfo(iter([ask])):
                names = {service.name for service in answer.list_services_response.service}
            assert names == {"Inference", "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}

    asyncio.run(main())


def test_a_worker_stops_at_once_while_its_model_loads() -> None:
    """It never serves, and does not wait for the model."""
    loaded = threading.Event()

    async def main() -> None:
        async with running_worker(lambda: loaded.wait(60)) as worker:
            worker.worker.stop()
            await asyncio.wait_for(asyncio.shield(worker.task), 30)
            assert not loaded.is_set()
            loaded.set()

    asyncio.run(main())
