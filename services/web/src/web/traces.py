"""The gateway's part of a trace: a span for each request with images, with a span for each call to a worker in it.

Import it only when traces are on (`Settings.traces`): OpenTelemetry takes memory and time to start.
"""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import grpc
from flask import Flask, Response, g, has_app_context, request
from opentelemetry.trace import Span

from telemetry.traces import Tracer, record_error, record_status
from web.routes import PROBES


class Traces(grpc.UnaryUnaryClientInterceptor):
    """Makes the spans of one process: as hooks of Flask and as an interceptor of gRPC."""

    def __init__(self) -> None:
        self._tracer = Tracer("facet-web")

    def watch(self, app: Flask) -> None:
        """Trace the requests of an application that bring images, after the hooks that it already has."""
        app.before_request(self._begin)
        app.after_request(self._end)

    def _begin(self) -> None:
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
        g.span = self._tracer.start_server_span(name, request.headers, attributes)

    def _end(self, response: Response) -> Response:
        span: Span | None = g.get("span")
        if span:
            span.set_attribute("http.response.status_code", response.status_code)
            if code := g.get("code"):
                span.set_attribute("facet.code", code)
            if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
                record_error(span, str(response.status_code))
            span.end()
        return response

    def intercept_unary_unary(
        self, continuation: Callable[[grpc.ClientCallDetails, Any], Any], client_call_details: Any, request: Any
    ) -> Any:
        """Make a call within a span, and pass the span on to the worker."""
        parent: Span | None = g.get("span") if has_app_context() else None
        if parent is None:
            return continuation(client_call_details, request)
        method = client_call_details.method.removeprefix("/")
        attributes = {"rpc.system.name": "grpc", "rpc.method": method}
        span, headers = self._tracer.start_client_span(method, parent, attributes)
        metadata = (*(client_call_details.metadata or ()), *headers.items())
        call = continuation(client_call_details._replace(metadata=metadata), request)
        call.add_done_callback(lambda call: _end_call(span, call.code()))
        return call

    def close(self) -> None:
        """Send the remaining spans."""
        self._tracer.close()


def _end_call(span: Span, code: grpc.StatusCode) -> None:
    record_status(span, code, code.name)
    span.end()
