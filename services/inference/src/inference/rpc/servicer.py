"""Translates: a message comes in, the image is examined, a message goes out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import grpc
from grpc_status import rpc_status

from inference.examination import examine
from inference.imaging.decode import ImageLimits
from inference.mtcnn.detector import Detector
from inference.mtcnn.steps import Abandoned, Steps
from inference.rpc.context import Context, request_id_of, seconds_left
from inference.rpc.errors import BodyTooLarge, Busy, DeadlineExceeded, NotReady, describe, rich_status
from inference.rpc.messages import read_options, write_results
from inference.rpc.metrics import WorkerMetrics
from inference.rpc.queue import InferenceQueue
from protos import infer_pb2, infer_pb2_grpc
from telemetry.logs import request_id

if TYPE_CHECKING:
    from inference.rpc.traces import Traces

log = logging.getLogger(__name__)


class InferenceServicer(infer_pb2_grpc.InferenceServicer):
    """The service `Inference` of infer.proto. It answers UNAVAILABLE until `detector` is set."""

    def __init__(
        self,
        queue: InferenceQueue,
        limits: ImageLimits,
        *,
        max_message_bytes: int,
        min_face_size: int,
        deadline: float,
        max_streams: int,
        worker: str,
        metrics: WorkerMetrics,
        traces: Traces | None,
    ) -> None:
        self.detector: Detector | None = None
        self._draining = asyncio.Event()
        self._queue = queue
        self._limits = limits
        self._max_message_bytes = max_message_bytes
        self._min_face_size = min_face_size  # pixels, for requests that do not set it
        self._deadline = deadline  # seconds for one image, unless the caller's deadline is shorter
        self._free_streams = max_streams  # each open stream holds an image in memory
        self._worker = worker
        self._metrics = metrics
        self._traces = traces

    def drain(self) -> None:
        """End each open stream after the image that it is waiting for."""
        self._draining.set()

    async def Predict(self, request: infer_pb2.Image, context: Context) -> infer_pb2.InferResults:  # noqa: N802
        """Answer one image, or end the call with a status."""
        request_id.set(request_id_of(context))
        try:
            return await self._answer("Predict", request, context)
        except asyncio.CancelledError:
            log.info("predict abandoned", extra={"reason": "the caller disconnected or its deadline passed"})
            raise
        except Exception as error:  # noqa: BLE001 - the caller gets a status for every error, and never a traceback
            await abort(context, error)

    async def PredictStream(  # noqa: N802
        self, request_iterator: AsyncIterator[infer_pb2.Image], context: Context
    ) -> AsyncIterator[infer_pb2.InferResults]:
        """Answer images in order. The next image is read from the connection when the last one is answered."""
        request_id.set(request_id_of(context))
        await context.send_initial_metadata(())  # stops Envoy's timeout for the request to arrive
        if self._free_streams == 0:
            await abort(context, Busy("this worker cannot take another stream; try again in a second"))
        self._free_streams -= 1
        try:
            async for request in self._until_draining(request_iterator):
                try:
                    answer = await self._answer("PredictStream", request, context, streaming=True)
                except Exception as error:  # noqa: BLE001 - an error ends the answer to one image, not the stream
                    _, code, message = _log_and_describe(error)
                    answer = infer_pb2.InferResults(image_id=request.image_id, message=message, code=code)
                yield answer
            if self._draining.is_set() and not context.done():  # a message that cannot be parsed has ended it already
                await abort(context, NotReady("this worker is being replaced; send the rest in a new stream"))
        finally:
            self._free_streams += 1

    async def _until_draining(self, requests: AsyncIterator[infer_pb2.Image]) -> AsyncIterator[infer_pb2.Image]:
        """Yield requests until the stream ends or this worker drains."""
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
        self, method: str, request: infer_pb2.Image, context: Context, *, streaming: bool = False
    ) -> infer_pb2.InferResults:
        """Examine an image when its turn comes, and count, trace and log it."""
        seconds = min(self._deadline, seconds_left(context))
        steps = Steps(time.monotonic() + seconds)
        with self._metrics.request(method):
            answering = self._examine(request, seconds, steps, streaming=streaming)
            if self._traces:
                answering = self._traces.image(method, request, context, steps, answering)
            return await answering

    async def _examine(
        self, request: infer_pb2.Image, seconds: float, steps: Steps, *, streaming: bool
    ) -> infer_pb2.InferResults:
        if self.detector is None:
            raise NotReady("the worker is loading its model; try again in a few seconds")
        if (size := request.ByteSize()) > self._max_message_bytes:
            raise BodyTooLarge(size, self._max_message_bytes)
        options, image = read_options(request, self._min_face_size), request.raw_data
        work = partial(examine, image, options, self.detector, self._limits, steps)
        try:
            async with asyncio.timeout(seconds):
                examination = await self._queue.run(work, steps, size=len(image), streaming=streaming)
        except (TimeoutError, Abandoned):
            raise DeadlineExceeded(
                f"no answer within {seconds:.3g} s; allow more time, send a smaller image or raise min_face_size"
            ) from None
        self._metrics.examined(len(examination.faces), steps)
        log.info(
            "predict",
            extra={
                "faces": len(examination.faces),
                "bytes": len(image),
                "size": f"{examination.width}x{examination.height}",
                "ms": {name: round(ms, 1) for name, ms in examination.milliseconds.items()},
            },
        )
        return write_results(examination, request.image_id, self._worker)


def _log_and_describe(error: Exception) -> tuple[grpc.StatusCode, str, str]:
    """Give the status, the reason and the message of an error. An unexpected one is logged with its traceback."""
    status, code, message = describe(error)
    if status is grpc.StatusCode.INTERNAL:
        log.error("predict failed", exc_info=error, extra={"code": code})
    else:
        log.info("predict refused", extra={"code": code, "reason": message})
    return status, code, message


async def abort(context: Context, error: Exception) -> NoReturn:
    """End a call with the status of an error."""
    status = rpc_status.to_status(rich_status(*_log_and_describe(error)))
    if status.code is grpc.StatusCode.DEADLINE_EXCEEDED:
        # Envoy counts a status that arrives without headers as a failure of this worker, which a late answer is not.
        await context.send_initial_metadata(())
    await context.abort(status.code, status.details, status.trailing_metadata)
