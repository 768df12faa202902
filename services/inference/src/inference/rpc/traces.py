"""The worker's part of a trace: a span for each picture, and within it one for the wait and for each step.

It is imported when traces are on (Settings.traces), and not before: OpenTelemetry takes memory and time to start.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable

from grpc import StatusCode
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, format_trace_id, set_span_in_context
from opentelemetry.trace import StatusCode as SpanStatus
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from telemetry.logs import request_id, trace_id

from inference.mtcnn.steps import Steps
from inference.rpc.context import Context, metadata, seconds_left
from inference.rpc.errors import describe
from protos import infer_pb2

FLUSH_SECONDS = 0.5  # of the second that a stopping worker has left
# A caller's deadline began before the call came here, so it ends before ours: as a call that is cancelled.
EARLY_SECONDS = 0.25
# With these the fault is the caller's, or nobody's.
NO_FAULT = (StatusCode.INVALID_ARGUMENT, StatusCode.CANCELLED)


class Traces:
    """Makes the spans of one worker, and sends them from a thread of its own to where the OTEL_ variables say."""

    def __init__(self, worker: str) -> None:
        # The name is not OTEL_SERVICE_NAME's: one variable for the whole stack would make one service of all tiers.
        resource = Resource.create({"service.name": "facet-inference", "service.instance.id": worker})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer(__name__)
        self._propagator = TraceContextTextMapPropagator()

    async def picture(
        self,
        method: str,
        request: infer_pb2.Image,
        context: Context,
        steps: Steps,
        answering: Awaitable[infer_pb2.InferResults],
    ) -> infer_pb2.InferResults:
        """Await the answer to one picture within a span, which goes on with the caller's trace if there is one."""
        began = time.time_ns()
        since_epoch = began - time.monotonic_ns()  # one for all of the picture, or a step might lie outside it
        span = self._tracer.start_span(
            f"Inference/{method}",
            self._propagator.extract(metadata(context)),
            SpanKind.SERVER,
            {
                "rpc.system.name": "grpc",
                "rpc.method": f"Inference/{method}",
                "facet.request_id": request_id.get(),
                "facet.bytes": len(request.raw_data),
            },
            start_time=began,
        )
        trace_id.set(format_trace_id(span.get_span_context().trace_id) if span.is_recording() else "")
        try:
            answer = await answering
        except asyncio.CancelledError:
            if seconds_left(context) < EARLY_SECONDS:
                _failed(span, StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", "the caller's time is over")
            else:
                _failed(span, StatusCode.CANCELLED, "CANCELLED", "the caller has gone")
            raise
        except Exception as error:
            _failed(span, *describe(error))
            raise
        else:
            _answered(span, answer)
            return answer
        finally:
            if span.is_recording():
                self._add_steps(span, steps, since_epoch)
            span.end(since_epoch + time.monotonic_ns())

    def _add_steps(self, span: Span, steps: Steps, since_epoch: int) -> None:
        """Make a span for each step: it begins with the step's first piece, and is as long as all of them together.

        A step that goes on, although nobody waits for it any more, lasts until now.
        """
        context = set_span_in_context(span)
        for name, seconds, milliseconds in steps.until_now():
            began = since_epoch + round(seconds * 1e9)
            self._tracer.start_span(name, context, start_time=began).end(began + round(milliseconds * 1e6))

    def close(self) -> None:
        """Send what is left, if that can be done at once: who stops does not wait for a collector."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(FLUSH_SECONDS)


def _answered(span: Span, answer: infer_pb2.InferResults) -> None:
    did = answer._meta_data  # noqa: SLF001 - what the contract calls it
    span.set_attributes(
        {
            "rpc.response.status_code": StatusCode.OK.name,
            "facet.faces": len(answer.results),
            "facet.width": did.width,
            "facet.height": did.height,
            "facet.engine": did.engine,
        }
    )


def _failed(span: Span, status: StatusCode, code: str, message: str) -> None:
    """Put a failure down; it is an error of the span's when the fault is ours."""
    span.set_attributes({"rpc.response.status_code": status.name, "facet.code": code})
    if status not in NO_FAULT:
        span.set_attribute("error.type", code)
        span.set_status(Status(SpanStatus.ERROR, message))
