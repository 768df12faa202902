"""PredictStream: answers in order, one for each image."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
from PIL import Image

from protos import infer_pb2
from tests.conftest import encode
from tests.inference.worker_in_process import (
    NOT_SERVING,
    refused,
    serving_worker,
)


def test_a_stream_answers_in_order_and_survives_a_bad_image(face_file: bytes) -> None:
    """A bad image gets an answer with its own error."""

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


def test_a_stream_slows_down_a_fast_sender() -> None:
    """While one image is examined, only as many more are sent as flow control lets through."""

    async def main() -> None:
        async with serving_worker(max_body_bytes=2**20) as worker:
            worker.engine.go.clear()
            sent = 0

            async def images() -> AsyncIterator[infer_pb2.Image]:
                nonlocal sent
                for _ in range(100):
                    sent += 1
                    yield infer_pb2.Image(raw_data=big)

            stream = worker.stub.PredictStream(images())
            await worker.until(worker.engine.entered.is_set)
            counts = [-1, 0]
            while counts[-1] != counts[-2]:  # until the sender waits
                await asyncio.sleep(0.3)
                counts.append(sent)
            assert sent < 30
            worker.engine.go.set()
            assert len([answer async for answer in stream]) == 100

    big = _big_png()
    asyncio.run(main())


def _big_png() -> bytes:
    """Give a file of about 700 kB that decodes quickly: noise does not compress."""
    noise = np.random.default_rng(0).integers(0, 255, (480, 480, 3), dtype=np.uint8)
    return encode(Image.fromarray(noise), compress_level=0)


def test_streams_are_bounded(face_file: bytes) -> None:
    """A further one is refused as busy until another ends."""

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


def test_a_stream_ends_between_two_images_when_the_worker_is_replaced(face_file: bytes) -> None:
    """The running image is answered; the status tells the sender to open a new stream."""

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
