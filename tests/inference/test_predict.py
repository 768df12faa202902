"""Predict: the answer to an image, the options, the errors and the deadlines."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from protos import infer_pb2
from tests.inference.worker_in_process import (
    WORKER_ID,
    refused,
    serving_worker,
)


def test_an_answer_has_the_faces_and_how_they_were_found(face_file: bytes) -> None:
    """It also has the id of the request, the size, the engine, the worker and the times."""

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
    """min_confidence omits uncertain faces; max_faces keeps the largest, the largest first."""

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
    """The status is INVALID_ARGUMENT, and nothing is computed."""

    async def main() -> None:
        async with serving_worker() as worker:
            image = infer_pb2.Image(raw_data=face_file, options=infer_pb2.DetectOptions(**options))
            with refused(grpc.StatusCode.INVALID_ARGUMENT, next(iter(options))):
                await worker.stub.Predict(image)
            assert worker.engine.begun == 0

    asyncio.run(main())


def test_a_full_queue_is_resource_exhausted(face_file: bytes) -> None:
    """The call beyond the capacity is refused at once; the others are answered."""

    async def main() -> None:
        async with serving_worker(queue_places=1) as worker:
            worker.engine.go.clear()
            calls = [worker.stub.Predict(infer_pb2.Image(raw_data=face_file)) for _ in range(2)]
            await worker.until(worker.engine.entered.is_set)
            await worker.until(lambda: worker.worker.queue.waiting == 1)
            with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "1 requests are waiting"):
                await worker.stub.Predict(infer_pb2.Image(raw_data=face_file))
            worker.engine.go.set()
            assert all([len((await call).results) == 3 for call in calls])
            assert worker.engine.begun == 2

    asyncio.run(main())


def test_a_waiting_call_past_its_deadline_is_never_computed(face_file: bytes) -> None:
    """If the deadline passes in the queue, the status is DEADLINE_EXCEEDED and the engine never sees the image."""

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
    """The rest of a cancelled call is not computed."""
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


def test_without_a_callers_deadline_the_workers_own_applies(face_file: bytes) -> None:
    """No call is longer than FACET_DEADLINE_SECONDS."""

    async def main() -> None:
        async with serving_worker(deadline_seconds=0.2) as worker:
            worker.engine.go.clear()
            with refused(grpc.StatusCode.DEADLINE_EXCEEDED, r"no answer within 0\.2 s"):
                await worker.stub.Predict(infer_pb2.Image(raw_data=face_file))

    asyncio.run(main())


def test_the_message_of_an_unexpected_error_stays_inside(face_file: bytes) -> None:
    """The status is INTERNAL, and the next image is answered."""

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


STREAMING = ("/Inference/PredictStream", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")


@pytest.mark.parametrize(
    "method", ["/Inference/Predict", "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch", *STREAMING]
)
def test_a_message_that_cannot_be_parsed_is_the_senders_fault(method: str, caplog: pytest.LogCaptureFixture) -> None:
    """Every service answers INVALID_ARGUMENT with a reason, and logs one line without a traceback."""

    async def main() -> None:
        async with serving_worker() as worker:
            answered = asyncio.Event()

            async def messages() -> AsyncIterator[bytes]:
                yield b"\xff\xff\xff"
                if method in STREAMING:
                    await answered.wait()  # the status comes while the stream is open

            call: Any = worker.channel.stream_stream(method)  # fits every kind of method
            with refused(grpc.StatusCode.INVALID_ARGUMENT, "the message cannot be parsed"):
                async for _ in call(messages(), timeout=10):
                    pass
            answered.set()

    caplog.set_level("INFO")
    asyncio.run(main())
    logged = [record for record in caplog.records if "refused" in record.message]
    assert [(record.levelname, record.exc_info) for record in logged] == [("INFO", None)]
    assert not any(record.levelname == "ERROR" for record in caplog.records)


def reason(error: grpc.aio.AioRpcError) -> str:
    """Give the reason of a status, from its google.rpc.ErrorInfo."""
    status = rpc_status.from_call(cast("Any", error))
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return str(info.reason)


def test_an_image_above_the_limit_is_refused_by_a_status_with_a_reason() -> None:
    """Up to the image's limit the bytes are decoded; then the image is too large, and then the message."""

    async def main() -> None:
        async with serving_worker(max_body_bytes=2**20) as worker:
            for size, expected, text in (
                (2**20, "INVALID_IMAGE", "not an image in a known format"),
                (2**20 + 1, "IMAGE_TOO_LARGE", "1048577 bytes, the limit is 1048576"),
                (2**21, "BODY_TOO_LARGE", "2097157 bytes, the limit is 2097152"),
                (3 * 2**20 - 1024, "BODY_TOO_LARGE", "send a smaller image"),
            ):
                with pytest.raises(grpc.aio.AioRpcError, match=text) as caught:
                    await worker.stub.Predict(infer_pb2.Image(raw_data=bytes(size)))
                assert (caught.value.code(), reason(caught.value)) == (grpc.StatusCode.INVALID_ARGUMENT, expected)
            # gRPC itself refuses still larger messages. The client recognizes them by these words.
            with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "larger than max"):
                await worker.stub.Predict(infer_pb2.Image(raw_data=bytes(3 * 2**20)))
            assert worker.engine.begun == 0

    asyncio.run(main())


def test_the_wait_in_the_queue_is_timed(face_file: bytes) -> None:
    """The time in the queue is one of the steps."""

    async def main() -> None:
        async with serving_worker() as worker:
            worker.engine.go.clear()
            calls = [worker.stub.Predict(infer_pb2.Image(raw_data=face_file)) for _ in range(2)]
            await worker.until(lambda: worker.worker.queue.waiting == 1)
            await asyncio.sleep(0.2)
            worker.engine.go.set()
            queued = max([(await call)._meta_data.milliseconds["queue"] for call in calls])
            assert queued >= 200

    asyncio.run(main())
