"""A worker in this process: real gRPC, real decoding; the engine is a stand-in that waits instead of computing."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from inference.mtcnn.detector import RGB, Box, Detector, Face, Landmarks, Point
from inference.mtcnn.steps import Steps
from inference.process.system import CannotStart
from inference.process.watchdog import EXIT_HUNG
from inference.process.worker import Worker
from inference.settings import Settings
from PIL import Image

from protos import infer_pb2, infer_pb2_grpc
from tests.conftest import encode
from tests.stack.running import free_base_port, wait_for

SERVING = health_pb2.HealthCheckResponse.SERVING
# gRPC waits a second before its second attempt, when the first one came before the worker listened.
RECONNECT = [("grpc.initial_reconnect_backoff_ms", 20), ("grpc.min_reconnect_backoff_ms", 1000)]
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
WORKER_ID = "3f9a1c07"
CORNER = Point(0, 0)
FACES = [
    Face(Box(CORNER, Point(side, side)), Landmarks(*5 * [CORNER]), confidence)
    for side, confidence in ((10, 0.99), (30, 0.95), (20, 0.9))
]


class StandIn:
    """An engine that finds FACES when it is let go, in as many steps as asked for."""

    name = "stand-in"
    device = "none"

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.entered = threading.Event()
        self.begun = 0
        self.finished = 0
        self.error: Exception | None = None

    def find_faces(self, picture: RGB, min_face_size: int, steps: Steps) -> list[Face]:
        del picture, min_face_size
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
    """A worker that listens, its stand-in, and stubs for its own port."""

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
        """Wait until a condition holds, awaitable or not."""
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
    """Run a worker with a stand-in; `load` is called where the model is loaded."""
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


def test_it_serves_only_after_the_model_is_loaded() -> None:
    """Health says NOT_SERVING from the first moment, Predict UNAVAILABLE, and both change with the warm-up's end."""

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


def test_it_answers_with_what_was_found_and_done(face_file: bytes) -> None:
    """The id comes back, the faces in the contract's form, and the size, engine, worker and times."""

    async def main() -> infer_pb2.InferResults:
        async with serving_worker() as worker:
            answer: infer_pb2.InferResults = await worker.stub.Predict(
                infer_pb2.Image(raw_data=face_file, image_id="a/b.png")
            )
            return answer

    answer = asyncio.run(main())
    assert answer.image_id == "a/b.png"
    assert [result.confidence for result in answer.results] == [0.99, 0.95, 0.9]
    assert answer.results[1].box.lower_right == infer_pb2.Point(x=30, y=30)
    did = answer._meta_data
    assert did.worker == WORKER_ID
    assert (did.width, did.height, did.orientation, did.model, did.engine) == (107, 120, 1, "mtcnn", "stand-in")
    assert set(did.milliseconds) == {"queue", "decode", "pnet", "onet"}


@pytest.mark.parametrize(
    ("options", "confidences"),
    [
        ({}, [0.99, 0.95, 0.9]),
        ({"max_faces": 2}, [0.95, 0.9]),
        ({"max_faces": 0}, [0.99, 0.95, 0.9]),
        ({"max_faces": 3}, [0.99, 0.95, 0.9]),
        ({"min_confidence": 0.95}, [0.99, 0.95]),
        ({"min_confidence": 0.91, "max_faces": 1}, [0.95]),
    ],
)
def test_options_choose_among_the_faces(face_file: bytes, options: dict[str, Any], confidences: list[float]) -> None:
    """min_confidence leaves out the uncertain ones; max_faces keeps the largest, largest first."""

    async def main() -> None:
        async with serving_worker() as worker:
            image = infer_pb2.Image(raw_data=face_file, options=infer_pb2.DetectOptions(**options))
            answer = await worker.stub.Predict(image)
            assert [result.confidence for result in answer.results] == confidences

    asyncio.run(main())


@pytest.mark.parametrize(
    "options", [{"min_face_size": 11}, {"min_confidence": 1.1}, {"min_confidence": float("nan")}, {"max_faces": -1}]
)
def test_an_option_out_of_range_is_refused_by_name(face_file: bytes, options: dict[str, Any]) -> None:
    """INVALID_ARGUMENT, and nothing is computed."""

    async def main() -> None:
        async with serving_worker() as worker:
            image = infer_pb2.Image(raw_data=face_file, options=infer_pb2.DetectOptions(**options))
            with refused(grpc.StatusCode.INVALID_ARGUMENT, next(iter(options))):
                await worker.stub.Predict(image)
            assert worker.engine.begun == 0

    asyncio.run(main())


def test_health_does_not_wait_behind_an_inference(face_file: bytes) -> None:
    """With the slot taken and the line full, a check is answered."""

    async def main() -> None:
        async with serving_worker(queue_places=2) as worker:
            worker.engine.go.clear()
            calls = [worker.stub.Predict(infer_pb2.Image(raw_data=face_file)) for _ in range(3)]
            await worker.until(worker.engine.entered.is_set)
            assert await worker.health() == SERVING
            worker.engine.go.set()
            assert all([len((await call).results) == 3 for call in calls])

    asyncio.run(main())


def test_a_full_line_is_resource_exhausted(face_file: bytes) -> None:
    """Who finds all places taken is refused at once, the others are answered."""

    async def main() -> None:
        async with serving_worker(queue_places=1) as worker:
            worker.engine.go.clear()
            calls = [worker.stub.Predict(infer_pb2.Image(raw_data=face_file)) for _ in range(2)]
            await worker.until(worker.engine.entered.is_set)
            await worker.until(lambda: worker.worker.waiting == 1)
            with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "1 requests are waiting"):
                await worker.stub.Predict(infer_pb2.Image(raw_data=face_file))
            worker.engine.go.set()
            assert all([len((await call).results) == 3 for call in calls])
            assert worker.engine.begun == 2

    asyncio.run(main())


def test_a_waiting_call_past_its_deadline_is_never_computed(face_file: bytes) -> None:
    """The deadline passes in the line: DEADLINE_EXCEEDED, and the engine never sees the picture."""

    async def main() -> None:
        async with serving_worker() as worker:
            worker.engine.go.clear()
            first = worker.stub.Predict(infer_pb2.Image(raw_data=face_file))
            await worker.until(worker.engine.entered.is_set)
            with refused(grpc.StatusCode.DEADLINE_EXCEEDED):
                await worker.stub.Predict(infer_pb2.Image(raw_data=face_file), timeout=0.2)
            worker.engine.go.set()
            await first
            await worker.stub.Predict(infer_pb2.Image(raw_data=face_file))
            assert worker.engine.begun == 2

    asyncio.run(main())


def test_a_running_call_whose_caller_leaves_ends_at_the_next_step(
    face_file: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """A cancelled call is not computed to its end."""
    caplog.set_level("INFO")

    async def main() -> None:
        async with serving_worker() as worker:
            worker.engine.go.clear()
            call = worker.stub.Predict(infer_pb2.Image(raw_data=face_file))
            await worker.until(worker.engine.entered.is_set)
            call.cancel()
            await worker.until(lambda: "predict abandoned" in caplog.text)
            worker.engine.go.set()
            await worker.stub.Predict(infer_pb2.Image(raw_data=face_file))
            assert (worker.engine.begun, worker.engine.finished) == (2, 1)

    asyncio.run(main())


def test_without_a_callers_deadline_the_workers_own_holds(face_file: bytes) -> None:
    """No call is longer than FACET_DEADLINE_SECONDS."""

    async def main() -> None:
        async with serving_worker(deadline_seconds=0.2) as worker:
            worker.engine.go.clear()
            with refused(grpc.StatusCode.DEADLINE_EXCEEDED, r"no answer within 0\.2 s"):
                await worker.stub.Predict(infer_pb2.Image(raw_data=face_file))

    asyncio.run(main())


def test_an_unforeseen_failure_keeps_its_text_to_itself(face_file: bytes) -> None:
    """INTERNAL; the next picture is answered as before."""

    async def main() -> None:
        async with serving_worker() as worker:
            worker.engine.error = RuntimeError("secret detail")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await worker.stub.Predict(infer_pb2.Image(raw_data=face_file))
            assert caught.value.code() is grpc.StatusCode.INTERNAL
            assert "secret" not in str(caught.value.details())
            worker.engine.error = None
            assert len((await worker.stub.Predict(infer_pb2.Image(raw_data=face_file))).results) == 3

    asyncio.run(main())


def test_an_inference_that_stalls_takes_the_worker_out_until_it_ends(face_file: bytes) -> None:
    """NOT_SERVING while it runs too long, SERVING again after it."""

    async def main() -> None:
        async with serving_worker(stall_seconds=0.2) as worker:
            worker.engine.go.clear()
            call = worker.stub.Predict(infer_pb2.Image(raw_data=face_file))
            await worker.becomes(NOT_SERVING)
            worker.engine.go.set()
            assert len((await call).results) == 3
            await worker.becomes(SERVING)

    asyncio.run(main())


def test_draining_says_not_serving_first_and_still_answers(face_file: bytes) -> None:
    """From the stop's first moment health says so; what runs and what still comes is answered."""

    async def main() -> None:
        async with serving_worker() as worker:
            worker.engine.go.clear()
            running = worker.stub.Predict(infer_pb2.Image(raw_data=face_file))
            await worker.until(worker.engine.entered.is_set)
            worker.worker.stop()
            await worker.becomes(NOT_SERVING)
            late = worker.stub.Predict(infer_pb2.Image(raw_data=face_file))
            await worker.until(lambda: worker.worker.waiting == 1)
            worker.engine.go.set()
            assert [len((await call).results) for call in (running, late)] == [3, 3]

    asyncio.run(main())


def test_a_stream_answers_in_order_and_survives_a_bad_picture(face_file: bytes) -> None:
    """Each bad one answers for itself."""

    async def main() -> list[infer_pb2.InferResults]:
        async with serving_worker() as worker:
            files = [face_file, b"no image", face_file, b"", face_file]
            images = [infer_pb2.Image(raw_data=file, image_id=str(index)) for index, file in enumerate(files)]
            return [answer async for answer in worker.stub.PredictStream(iter(images))]

    answers = asyncio.run(main())
    assert [answer.image_id for answer in answers] == ["0", "1", "2", "3", "4"]
    assert [len(answer.results) for answer in answers] == [3, 0, 3, 0, 3]
    assert [answer.code for answer in answers] == ["", "INVALID_IMAGE", "", "EMPTY_IMAGE", ""]
    assert all(bool(answer.message) == bool(answer.code) for answer in answers)


def test_a_stream_holds_a_fast_sender_back() -> None:
    """While one picture is computed, no more is read than what flow control lets through."""

    async def main() -> None:
        async with serving_worker(max_body_bytes=2**20) as worker:
            worker.engine.go.clear()
            sent = 0

            async def pictures() -> AsyncIterator[infer_pb2.Image]:
                nonlocal sent
                for _ in range(100):
                    sent += 1
                    yield infer_pb2.Image(raw_data=big)

            stream = worker.stub.PredictStream(pictures())
            await worker.until(worker.engine.entered.is_set)
            counts = [-1, 0]
            while counts[-1] != counts[-2]:  # until the sender has come to a stand
                await asyncio.sleep(0.3)
                counts.append(sent)
            assert sent < 30
            worker.engine.go.set()
            assert len([answer async for answer in stream]) == 100

    big = _big_png()
    asyncio.run(main())


def _big_png() -> bytes:
    """About 700 kB that decode quickly: noise, which does not compress."""
    noise = np.random.default_rng(0).integers(0, 255, (480, 480, 3), dtype=np.uint8)
    return encode(Image.fromarray(noise), compress_level=0)


def test_streams_are_bounded(face_file: bytes) -> None:
    """One too many is refused as busy; when one ends there is room again."""

    async def main() -> None:
        async with serving_worker(max_streams=1) as worker:
            first = worker.stub.PredictStream()
            await first.write(infer_pb2.Image(raw_data=face_file))
            answer: Any = await first.read()
            assert len(answer.results) == 3
            with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "cannot take another stream"):
                await worker.stub.PredictStream(iter([infer_pb2.Image(raw_data=face_file)])).read()
            await first.done_writing()
            assert await first.read() is grpc.aio.EOF
            assert len([answer async for answer in worker.stub.PredictStream(iter([infer_pb2.Image()]))]) == 1

    asyncio.run(main())


def test_a_stream_ends_between_two_pictures_when_the_worker_is_replaced(face_file: bytes) -> None:
    """What was begun is answered; the sender learns that the rest belongs into a new stream."""

    async def main() -> None:
        async with serving_worker() as worker:
            worker.engine.go.clear()
            stream = worker.stub.PredictStream()
            await stream.write(infer_pb2.Image(raw_data=face_file))
            await worker.until(worker.engine.entered.is_set)
            worker.worker.stop()
            await worker.becomes(NOT_SERVING)
            worker.engine.go.set()
            answer: Any = await stream.read()
            assert len(answer.results) == 3
            with refused(grpc.StatusCode.UNAVAILABLE, "new stream"):
                await stream.read()

    asyncio.run(main())


def test_the_shared_port_is_open_only_while_it_serves(face_file: bytes) -> None:
    """The kernel deals its connections to whoever listens: not to one that still loads, nor to one that leaves."""

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


# A worker in a process of its own, whose engine never comes back.
HANGING_WORKER = """
import asyncio, sys, threading
from telemetry import logs
from inference.mtcnn.detector import Detector
from inference.settings import Settings
from inference.process.watchdog import EXIT_HUNG
from inference.process.worker import Worker
class Hanging:
    name = "hanging"
    def find_faces(self, *_):
        threading.Event().wait()
logs.configure("INFO", tier="inference", part="worker")
async def main():
    await Worker(Settings(), 0, "0", lambda _: Detector(Hanging()), 1).run()
asyncio.run(main())
"""


def test_an_inference_that_hangs_ends_the_worker(face_file: bytes) -> None:
    """With an exit code of its own and the request's id in the log; the supervisor starts another."""
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


def test_its_own_port_is_its_own() -> None:
    """A second worker of the same slot does not start beside it."""

    async def main() -> None:
        async with serving_worker() as worker:
            twin = Worker(worker.settings, 0, WORKER_ID, lambda *_: Detector(StandIn()), 1)
            with pytest.raises(CannotStart, match=worker.worker.address):
                await twin.run()

    asyncio.run(main())


def test_reflection_lists_the_service() -> None:
    """Grpcurl needs no .proto file."""

    async def main() -> None:
        async with serving_worker() as worker:
            channel: Any = worker.channel  # the stubs know the synchronous one alone
            stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
            ask = reflection_pb2.ServerReflectionRequest(list_services="")
            async for answer in stub.ServerReflectionInfo(iter([ask])):
                names = {service.name for service in answer.list_services_response.service}
            assert names == {"Inference", "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}

    asyncio.run(main())


STREAMING = ("/Inference/PredictStream", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")


@pytest.mark.parametrize(
    "method", ["/Inference/Predict", "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch", *STREAMING]
)
def test_a_message_that_cannot_be_read_is_its_senders_fault(method: str, caplog: pytest.LogCaptureFixture) -> None:
    """INVALID_ARGUMENT and a reason, whatever the service, and one line in the log without a traceback."""

    async def main() -> None:
        async with serving_worker() as worker:
            answered = asyncio.Event()

            async def messages() -> AsyncIterator[bytes]:
                yield b"\xff\xff\xff"
                if method in STREAMING:
                    await answered.wait()  # the answer comes while the stream is open

            call: Any = worker.channel.stream_stream(method)  # as for any method: one message, perhaps more
            with refused(grpc.StatusCode.INVALID_ARGUMENT, "the message cannot be parsed"):
                async for _ in call(messages(), timeout=10):
                    pass
            answered.set()

    caplog.set_level("INFO")
    asyncio.run(main())
    told = [record for record in caplog.records if "refused" in record.message]
    assert [(record.levelname, record.exc_info) for record in told] == [("INFO", None)]
    assert not any(record.levelname == "ERROR" for record in caplog.records)


def reason(error: grpc.aio.AioRpcError) -> str:
    """Give the reason that a status carries as google.rpc.ErrorInfo."""
    status = rpc_status.from_call(cast("Any", error))
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return str(info.reason)


def test_an_image_above_the_limit_is_refused_by_a_status_with_a_reason() -> None:
    """At the limit the bytes are judged; above it the image is too large, and above the message's limit the message."""

    async def main() -> None:
        async with serving_worker(max_body_bytes=2**20) as worker:
            for size, expected, text in (
                (2**20, "INVALID_IMAGE", "not an image in a known format"),
                (2**20 + 1, "IMAGE_TOO_LARGE", "1048577 bytes, the limit is 1048576"),
                (2**21, "BODY_TOO_LARGE", "2097157 bytes, the limit is 2097152"),
                (2**22 - 1024, "BODY_TOO_LARGE", "send a smaller image"),
            ):
                with pytest.raises(grpc.aio.AioRpcError, match=text) as caught:
                    await worker.stub.Predict(infer_pb2.Image(raw_data=bytes(size)))
                assert (caught.value.code(), reason(caught.value)) == (grpc.StatusCode.INVALID_ARGUMENT, expected)
            # gRPC itself cuts off what is larger; the client tells it from Busy by these words.
            with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "larger than max"):
                await worker.stub.Predict(infer_pb2.Image(raw_data=bytes(2**22)))
            assert worker.engine.begun == 0

    asyncio.run(main())


def test_a_stream_goes_on_after_an_image_above_the_limit(face_file: bytes) -> None:
    """The image gets an answer with its id and BODY_TOO_LARGE, the next one its faces."""

    async def main() -> list[infer_pb2.InferResults]:
        async with serving_worker(max_body_bytes=2**20) as worker:
            files = [face_file, bytes(2**21), face_file]
            images = [infer_pb2.Image(raw_data=file, image_id=str(index)) for index, file in enumerate(files)]
            return [answer async for answer in worker.stub.PredictStream(iter(images))]

    answers = asyncio.run(main())
    assert [(answer.image_id, answer.code, len(answer.results)) for answer in answers] == [
        ("0", "", 3),
        ("1", "BODY_TOO_LARGE", 0),
        ("2", "", 3),
    ]


def test_times_are_those_of_the_steps(face_file: bytes) -> None:
    """The time in the line is told apart from the time at work."""

    async def main() -> None:
        async with serving_worker() as worker:
            worker.engine.go.clear()
            calls = [worker.stub.Predict(infer_pb2.Image(raw_data=face_file)) for _ in range(2)]
            await worker.until(lambda: worker.worker.waiting == 1)
            await asyncio.sleep(0.2)
            worker.engine.go.set()
            queued = max([(await call)._meta_data.milliseconds["queue"] for call in calls])
            assert queued >= 200

    asyncio.run(main())


def test_a_stop_while_the_model_loads_is_obeyed_at_once() -> None:
    """It never says SERVING, and does not wait for the load to end."""
    loaded = threading.Event()

    async def main() -> None:
        async with running_worker(lambda: loaded.wait(60)) as worker:
            worker.worker.stop()
            await asyncio.wait_for(asyncio.shield(worker.task), 30)
            assert not loaded.is_set()
            loaded.set()

    asyncio.run(main())
