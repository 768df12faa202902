"""The worker's part of a trace: a span for each image, with a span for the wait and for each step in it.

Import it only when traces are on (`Settings.traces`): OpenTelemetry takes memory and time to start.
"""

import asyncio
import time
from collections.abc import Awaitable

from grpc import StatusCode
from opentelemetry.trace import Span

from inference.mtcnn.steps import Steps
from inference.rpc.context import Context, metadata, seconds_left
from inference.rpc.errors import describe
from protos import infer_pb2
from telemetry.logs import request_id
from telemetry.traces import Tracer, record_status

# A caller's deadline starts before its call arrives here, so the caller cancels the call just before our own deadline.
EARLY_SECONDS = 0.25


class Traces:
    def __init__(self, worker: str) -> None:
        self._tracer = Tracer("facet-inference", service_instance_id=worker)

    async def image(
        self,
        method: str,
        request: infer_pb2.Image,
        context: Context,
        steps: Steps,
        answering: Awaitable[infer_pb2.InferResults],
    ) -> infer_pb2.InferResults:
        """Await the answer to one image within a span."""
        began = time.time_ns()
        since_epoch = began - time.monotonic_ns()  # one offset for all times of the image keeps steps inside its span
        attributes = {
            "rpc.system.name": "grpc",
            "rpc.method": f"Inference/{method}",
            "facet.request_id": request_id.get(),
            "facet.bytes": len(request.raw_data),
        }
        span = self._tracer.start_server_span(f"Inference/{method}", metadata(context), attributes, began)
        try:
            answer = await answering
        except asyncio.CancelledError:
            if seconds_left(context) < EARLY_SECONDS:
                _record_failure(span, StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", "the caller's deadline passed")
            else:
                _record_failure(span, StatusCode.CANCELLED, "CANCELLED", "the caller disconnected")
            raise
        except Exception as error:
            _record_failure(span, *describe(error))
            raise
        else:
            record_status(span, StatusCode.OK, "")
            done = answer._meta_data  # noqa: SLF001 - the contract's name
            span.set_attributes(
                {
                    "facet.faces": len(answer.results),
                    "facet.width": done.width,
                    "facet.height": done.height,
                    "facet.engine": done.engine,
                }
            )
            return answer
        finally:
            if span.is_recording():
                # A step's span starts with its first piece and is as long as all its pieces together. A step that still
                # runs, although nobody waits for it, lasts until now.
                for name, seconds, milliseconds in steps.until_now():
                    started = since_epoch + round(seconds * 1e9)
                    self._tracer.add_span(name, span, started, started + round(milliseconds * 1e6))
            span.end(since_epoch + time.monotonic_ns())

    def close(self) -> None:
        self._tracer.close()


def _record_failure(span: Span, status: StatusCode, code: str, message: str) -> None:
    span.set_attribute("facet.code", code)
    record_status(span, status, code, message)
