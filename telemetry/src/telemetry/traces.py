"""Set-up of traces, and the spans that both services make. Import it only when traces are on: it takes memory and time.

The instrumentation packages for gRPC and Flask (0.66b) do not replace it: they make one span per stream instead of one
per image, mark calls that the caller cancelled or got wrong as errors, and hold back the SDK by exact versions.
"""

import threading
from collections.abc import Mapping
from typing import Any

from grpc import StatusCode
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, format_trace_id, set_span_in_context
from opentelemetry.trace import StatusCode as SpanStatus
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from telemetry.logs import trace_id

FLUSH_SECONDS = 0.5  # a stopping worker reserves one second for everything after its last call
# Statuses that are not the service's fault.
NO_FAULT = (StatusCode.OK, StatusCode.INVALID_ARGUMENT, StatusCode.CANCELLED)


class Tracer:
    """Starts the spans of one process. A background thread sends them to the endpoint that the OTEL_ variables set."""

    def __init__(self, service: str, **resource: str) -> None:
        # OTEL_SERVICE_NAME is not read: one variable for the whole stack would give all tiers the same name.
        attributes = {"service.name": service, **{name.replace("_", "."): value for name, value in resource.items()}}
        self._provider = TracerProvider(resource=Resource.create(attributes), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer(__name__)
        self._propagator = TraceContextTextMapPropagator()

    def start_server_span(
        self, name: str, headers: Any, attributes: Mapping[str, Any], start_time: int | None = None
    ) -> Span:
        """Start the span of a request, as part of the caller's trace if the headers name one.

        `headers` is a mapping by lower-case names, or one that ignores case as Flask's does.

        From here on the log lines of the request have the id of its trace, unless the caller's trace is not sampled.
        """
        parent = self._propagator.extract(headers)
        span = self._tracer.start_span(name, parent, SpanKind.SERVER, attributes, start_time=start_time)
        trace_id.set(format_trace_id(span.get_span_context().trace_id) if span.is_recording() else "")
        return span

    def start_client_span(self, name: str, parent: Span, attributes: Mapping[str, Any]) -> tuple[Span, dict[str, str]]:
        """Start the span of an outgoing call, and give the headers that make the callee continue the trace."""
        span = self._tracer.start_span(name, set_span_in_context(parent), SpanKind.CLIENT, attributes)
        headers: dict[str, str] = {}
        self._propagator.inject(headers, set_span_in_context(span))
        return span, headers

    def add_span(self, name: str, parent: Span, began: int, ended: int) -> None:
        """Add a span that lies within another, between two times in nanoseconds since the epoch."""
        self._tracer.start_span(name, set_span_in_context(parent), start_time=began).end(ended)

    def close(self) -> None:
        """Send the remaining spans, unless it takes too long: a shutdown does not wait for a collector."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(FLUSH_SECONDS)


def record_status(span: Span, status: StatusCode, error_type: str, message: str | None = None) -> None:
    """Record how a gRPC call ended. It counts as an error only if the service is at fault."""
    span.set_attribute("rpc.response.status_code", status.name)
    if status not in NO_FAULT:
        record_error(span, error_type, message)


def record_error(span: Span, error_type: str, message: str | None = None) -> None:
    span.set_attribute("error.type", error_type)
    span.set_status(Status(SpanStatus.ERROR, message))
