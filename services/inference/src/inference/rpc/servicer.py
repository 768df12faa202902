"""Translates: a message comes in, the picture is decoded, the detector called, a message goes out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import grpc
from grpc_status import rpc_status

from inference.imaging.decode import ImageLimits, Picture, decode
from inference.imaging.draw import DrawOptions, draw
from inference.logs import request_id
from inference.mtcnn.detector import DetectOptions, Detector
from inference.mtcnn.steps import Abandoned, Steps
from inference.rpc.context import Context, request_id_of, seconds_left
from inference.rpc.errors import Busy, DeadlineExceeded, NotReady, describe, rich_status
from inference.rpc.messages import read_drawing, read_options, result
from inference.rpc.metrics import WorkerMetrics
from inference.rpc.queue import InferenceQueue
from protos import infer_pb2, infer_pb2_grpc

if TYPE_CHECKING:
    from inference.rpc.traces import Traces

log = logging.getLogger(__name__)

DRAWN_PER_RECEIVED = 2  # how many times as long as the longest picture that is taken a drawn one may be


class InferenceServicer(infer_pb2_grpc.InferenceServicer):
    """The service `Inference` of infer.proto. Until `detector` is set it answers UNAVAILABLE."""

    def __init__(
        self,
        slot: InferenceQueue,
        limits: ImageLimits,
        *,
        defaults: DetectOptions,
        deadline: float,
        max_streams: int,
        worker: str,
        metrics: WorkerMetrics,
        traces: Traces | None,
    ) -> None:
        self.detector: Detector | None = None
        self._draining = asyncio.Event()
        self._slot = slot
        self._limits = limits
        self._defaults = defaults
        self._deadline = deadline  # seconds that a picture may take when the caller sets no shorter one
        self._free_streams = max_streams  # a waiting stream holds a picture in memory
        self._worker = worker
        self._metrics = metrics
        self._traces = traces

    def drain(self) -> None:
        """Let open streams end after the picture that is being examined."""
        self._draining.set()

    async def Predict(self, request: infer_pb2.Image, context: Context) -> infer_pb2.InferResults:  # noqa: N802
        """Answer one picture, or end the call with a status."""
        request_id.set(request_id_of(context))
        try:
            return await self._answer("Predict", request, context)
        except asyncio.CancelledError:
            log.info("predict abandoned", extra={"reason": "the caller has gone or its deadline is over"})
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets a status and no traceback
            await abort(context, error)

    async def PredictStream(  # noqa: N802
        self, request_iterator: AsyncIterator[infer_pb2.Image], context: Context
    ) -> AsyncIterator[infer_pb2.InferResults]:
        """Answer pictures in their order; the next is taken from the wire when the last is answered."""
        request_id.set(request_id_of(context))
        await context.send_initial_metadata(())  # or Envoy's time for a request to arrive would run on
        if self._free_streams == 0:
            await abort(context, Busy("this worker has no room for another stream; try again in a second"))
        self._free_streams -= 1
        try:
            async for answer in self._answers(request_iterator, context):
                yield answer
            if self._draining.is_set():
                await abort(context, NotReady("this worker is being replaced; send the rest in a new stream"))
        finally:
            self._free_streams += 1

    async def _answers(
        self, requests: AsyncIterator[infer_pb2.Image], context: Context
    ) -> AsyncIterator[infer_pb2.InferResults]:
        async for request in self._until_draining(requests):
            try:
                answer = await self._answer("PredictStream", request, context, patient=True)
            except Exception as error:  # noqa: BLE001 - one picture's trouble does not end the others
                _, code, message = _logged(error)
                answer = infer_pb2.InferResults(image_id=request.image_id, message=message, code=code)
            yield answer

    async def _until_draining(self, requests: AsyncIterator[infer_pb2.Image]) -> AsyncIterator[infer_pb2.Image]:
        """Give what comes in until the stream or this worker's service ends."""
        draining = asyncio.create_task(self._draining.wait())
        try:
            while not draining.done():
                following = asyncio.ensure_future(anext(requests, None))
                try:
                    await asyncio.wait([following, draining], return_when=asyncio.FIRST_COMPLETED)
                    request = following.result() if following.done() else None
                finally:
                    following.cancel()
                if request is None:
                    return
                yield request
        finally:
            draining.cancel()

    async def _answer(
        self, method: str, request: infer_pb2.Image, context: Context, *, patient: bool = False
    ) -> infer_pb2.InferResults:
        """Answer a picture under the eyes of whoever counts and traces."""
        seconds = min(self._deadline, seconds_left(context))
        steps = Steps(time.monotonic() + seconds)
        with self._metrics.request(method):
            answering = self._answer_within(seconds, request, steps, patient=patient)
            if self._traces:
                answering = self._traces.picture(method, request, context, steps, answering)
            return await answering

    async def _answer_within(
        self, seconds: float, request: infer_pb2.Image, steps: Steps, *, patient: bool
    ) -> infer_pb2.InferResults:
        detector = self.detector
        if detector is None:
            raise NotReady("the worker is loading its model; try again in a few seconds")
        options = read_options(request.options, self._defaults)
        drawing = read_drawing(request)
        work, size = partial(self._examine, request, options, drawing, detector, steps), len(request.raw_data)
        try:
            async with asyncio.timeout(seconds):
                return await self._slot.run(work, steps, size=size, patient=patient)
        except (TimeoutError, Abandoned):
            raise DeadlineExceeded(
                f"no answer within {seconds:.3g} s; allow more time, send a smaller picture or raise min_face_size"
            ) from None

    def _examine(
        self,
        request: infer_pb2.Image,
        options: DetectOptions,
        drawing: DrawOptions | None,
        detector: Detector,
        steps: Steps,
    ) -> infer_pb2.InferResults:
        with steps("decode"):
            picture = decode(request.raw_data, self._limits)
        faces = detector.detect(picture.rgb, options, steps)
        drawn = b""
        if drawing:
            with steps("draw"):
                drawn = draw(picture, faces, drawing, DRAWN_PER_RECEIVED * self._limits.max_bytes)
        self._metrics.examined(len(faces), steps)
        log.info(
            "predict",
            extra={
                "faces": len(faces),
                "bytes": len(request.raw_data),
                "size": f"{picture.width}x{picture.height}",
                "ms": {name: round(ms, 1) for name, ms in steps.milliseconds.items()},
            },
        )
        return infer_pb2.InferResults(
            image_id=request.image_id,
            results=map(result, faces),
            _meta_data=self._meta_data(picture, detector, steps),
            picture=drawn,
        )

    def _meta_data(self, picture: Picture, detector: Detector, steps: Steps) -> infer_pb2.MetaData:
        return infer_pb2.MetaData(
            width=picture.width,
            height=picture.height,
            orientation=picture.orientation,
            model=detector.model,
            engine=detector.engine,
            worker=self._worker,
            milliseconds={name: round(ms, 3) for name, ms in steps.milliseconds.items()},
        )


def _logged(error: Exception) -> tuple[grpc.StatusCode, str, str]:
    """Describe an error for its sender and log it: a foreseen one in a line, another with its traceback."""
    status, code, message = describe(error)
    if status is grpc.StatusCode.INTERNAL:
        log.error("predict failed", exc_info=error, extra={"code": code})
    else:
        log.info("predict refused", extra={"code": code, "reason": message})
    return status, code, message


async def abort(context: Context, error: Exception) -> NoReturn:
    """End a call with the status that its error has."""
    status = rpc_status.to_status(rich_status(*_logged(error)))
    if status.code is grpc.StatusCode.DEADLINE_EXCEEDED:
        # Not as the first thing that Envoy hears: it would count as a failure of this worker.
        await context.send_initial_metadata(())
    await context.abort(status.code, status.details, status.trailing_metadata)
