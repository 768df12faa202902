"""A worker in this process: real gRPC and real decoding; the engine is a stand-in that waits instead of computing."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from inference.mtcnn.detector import RGB, Box, Detector, Face, Landmarks, Point
from inference.mtcnn.steps import Steps
from inference.process.worker import Worker
from inference.settings import Settings

from protos import infer_pb2_grpc
from tests.stack.running import free_base_port

SERVING = health_pb2.HealthCheckResponse.SERVING
# By default gRPC waits a second before its next attempt if the first one came before the worker listened.
RECONNECT = [("grpc.initial_reconnect_backoff_ms", 20), ("grpc.min_reconnect_backoff_ms", 1000)]
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
WORKER_ID = "3f9a1c07"
CORNER = Point(0, 0)
FACES = [
    Face(Box(CORNER, Point(side, side)), Landmarks(*5 * [CORNER]), confidence)
    for side, confidence in ((10, 0.99), (30, 0.95), (20, 0.9))
]


class StandIn:
    """An engine that finds FACES as soon as `go` is set, in two steps."""

    name = "stand-in"
    device = "none"

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.entered = threading.Event()
        self.begun = 0
        self.finished = 0
        self.error: Exception | None = None

    def find_faces(self, pixels: RGB, min_face_size: int, steps: Steps) -> list[Face]:
        del pixels, min_face_size
        self.begun += 1
        with steps("pnet"):
            self.entered.set()
            self.go.wait(60)
        if self.error:
            raise self.error
        with steps("onet"):
            self.finished += 1
        return FACES


class Running:
    """A worker that listens, its engine, and stubs for its own port."""

    def __init__(
        self,
        worker: Worker,
        task: asyncio.Task[None],
        engine: StandIn,
        channel: grpc.aio.Channel,
        settings: Settings,
    ) -> None:
        self.worker = worker
        self.task = task
        self.engine = engine
        self.channel = channel
        self.settings = settings
        self.stub = infer_pb2_grpc.InferenceStub(channel)
        self._health: Any = health_pb2_grpc.HealthStub(channel)

    async def health(self, service: str = "Inference") -> int:
        answer = await self._health.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
        return int(answer.status)

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait until a condition holds. It may be awaitable."""
        async with asyncio.timeout(30):
            while True:
                result = condition()
                if await result if asyncio.iscoroutine(result) else result:
                    return
                await asyncio.sleep(0.01)

    async def becomes(self, status: int) -> None:
        async def has_become() -> bool:
            return await self.health() == status

        await self.until(has_become)


@asynccontextmanager
async def running_worker(load: Callable[[], Any] = lambda: None, **settings: Any) -> AsyncIterator[Running]:
    """Run a worker with a stand-in engine. It calls `load` when it loads the model."""
    engine, base = StandIn(), free_base_port()
    chosen = Settings(host="127.0.0.1", port=base, worker_port=base + 1, drain_seconds=0.2, **settings)

    def load_stand_in(*_: Any) -> Detector:
        load()
        return Detector(engine)

    reading, writing = os.pipe()
    worker = Worker(chosen, 0, WORKER_ID, load_stand_in, writing)
    running = asyncio.create_task(worker.run())
    try:
        async with grpc.aio.insecure_channel(worker.address, RECONNECT) as channel:
            await asyncio.wait_for(channel.channel_ready(), 30)
            yield Running(worker, running, engine, channel, chosen)
    finally:
        engine.go.set()
        worker.stop()
        await running
        os.close(reading)
        os.close(writing)


@asynccontextmanager
async def serving_worker(**settings: Any) -> AsyncIterator[Running]:
    async with running_worker(**settings) as running:
        await running.becomes(SERVING)
        yield running


@contextmanager
def refused(status: grpc.StatusCode, match: str | None = None) -> Iterator[None]:
    with pytest.raises(grpc.aio.AioRpcError, match=match) as caught:
        yield
    assert caught.value.code() is status
