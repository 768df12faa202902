"""The gateway's part of a trace: a span for each request with pictures, and within it one for each call to a worker.

It is imported when traces are on (Settings.traces), and not before: OpenTelemetry takes memory and time to start.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import grpc
from flask import Flask, Response, g, has_app_context, request
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from telemetry.logs import trace_id

from web.routes import PROBES

SERVER_ERROR = 500
# Below the one and with the others, there is none, or it is the caller's.
NO_FAULT = (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.CANCELLED)
FLUSH_SECONDS = 0.5


class Traces(grpc.UnaryUnaryClientInterceptor):
    """Makes the spans of one process, and sends them from a thread of its own to where the OTEL_ variables say.

    For gRPC it is an interceptor, for Flask a pair of hooks.
    """

    def __init__(self) -> None:
        # The name is not OTEL_SERVICE_NAME's: one variable for the whole stack would make one service of all tiers.
        self._provider = TracerProvider(resource=Resource.create({"service.name": "facet-web"}), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer(__name__)
        self._propagator = TraceContextTextMapPropagator()

    def watch(self, app: Flask) -> None:
        """Trace the requests of an application that bring pictures, after the hooks that it has."""
        app.before_request(self._begin)
        app.after_request(self._end)

    def _begin(self) -> None:
        """Begin a span, which goes on with the caller's trace if there is one."""
        if request.url_rule is None or request.blueprint != "api" or request.endpoint in PROBES:
            return
        attributes = {
            "http.request.method": request.method,
            "url.path": request.path,
            "url.scheme": request.scheme,
            "http.route": request.url_rule.rule,
            "facet.request_id": g.request_id,
        }
        name = f"{request.method} {request.url_rule.rule}"
        parent = self._propagator.extract(request.headers)
        g.span = self._tracer.start_span(name, parent, SpanKind.SERVER, attributes)
        if g.span.is_recording():
            trace_id.set(format_trace_id(g.span.get_span_context().trace_id))

    def _end(self, response: Response) -> Response:
        span: Span | None = g.get("span")
        if span:
            span.set_attribute("http.response.status_code", response.status_code)
            if code := g.get("code"):
                span.set_attribute("facet.code", code)
            if response.status_code >= SERVER_ERROR:
                span.set_attribute("error.type", str(response.status_code))
                span.set_status(Status(StatusCode.ERROR))
            span.end()
        return response

    def intercept_unary_unary(
        self, continuation: Callable[[grpc.ClientCallDetails, Any], Any], client_call_details: Any, request: Any
    ) -> Any:
        """Make a call within a span of its own, and tell the worker its name."""
        parent: Span | None = g.get("span") if has_app_context() else None
        if parent is None:
            return continuation(client_call_details, request)
        method = client_call_details.method.removeprefix("/")
        attributes = {"rpc.system.name": "grpc", "rpc.method": method}
        span = self._tracer.start_span(method, set_span_in_context(parent), SpanKind.CLIENT, attributes)
        headers: dict[str, str] = {}
        self._propagator.inject(headers, set_span_in_context(span))
        metadata = (*(client_call_details.metadata or ()), *headers.items())
        call = continuation(client_call_details._replace(metadata=metadata), request)
        call.add_done_callback(lambda call: _called(span, call.code()))
        return call

    def close(self) -> None:
        """Send what is left, if that can be done at once: who stops does not wait for a collector."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(FLUSH_SECONDS)


def _called(span: Span, code: grpc.StatusCode) -> None:
    span.set_attribute("rpc.response.status_code", code.name)
    if code not in NO_FAULT:
        span.set_attribute("error.type", code.name)
        span.set_status(Status(StatusCode.ERROR))
    span.end()
