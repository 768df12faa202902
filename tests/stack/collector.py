"""A collector of traces in this process: it receives spans over OTLP/gRPC and returns them as trees."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2

from tests.stack.running import wait_for

ERROR = trace_pb2.Status.STATUS_CODE_ERROR


@dataclass(frozen=True)
class Span:
    """A span as it was received; times are nanoseconds since the epoch."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    began: int
    ended: int
    attributes: dict[str, Any]
    failed: bool

    @property
    def milliseconds(self) -> float:
        return (self.ended - self.began) / 1e6


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps every span."""

    def __init__(self) -> None:
        self.url = ""
        self._spans: list[Span] = []
        self._lock = threading.Lock()

    def Export(  # noqa: N802
        self, request: trace_service_pb2.ExportTraceServiceRequest, _context: grpc.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        with self._lock:
            for group in request.resource_spans:
                service = _values(group.resource.attributes)["service.name"]
                self._spans += [_span(service, span) for scope in group.scope_spans for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()

    @property
    def spans(self) -> list[Span]:
        with self._lock:
            return list(self._spans)

    def trace(self, trace: str, *names: str) -> Trace:
        """Wait for spans of all these names, two of a name that occurs twice, and return their trace."""

        def found() -> list[Span] | None:
            spans = [span for span in self.spans if span.trace == trace]
            return None if Counter(names) - Counter(span.name for span in spans) else spans

        return Trace(wait_for(found, f"a trace with {', '.join(names)}"))


class Trace:
    """The spans of one trace."""

    def __init__(self, spans: list[Span]) -> None:
        self.spans = spans

    def all(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    def one(self, name: str, service: str = "") -> Span:
        (span,) = [span for span in self.all(name) if service in ("", span.service)]
        return span

    def children(self, parent: Span) -> list[Span]:
        return sorted((span for span in self.spans if span.parent == parent.id), key=lambda span: span.began)

    def line(self, span: Span) -> list[str]:
        """Name the ancestors of a span and the span itself, outermost first."""
        above = [found for found in self.spans if found.id == span.parent]
        return [*(self.line(above[0]) if above else []), f"{span.service}: {span.name}"]


def _span(service: str, span: trace_pb2.Span) -> Span:
    return Span(
        service=service,
        name=span.name,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        began=span.start_time_unix_nano,
        ended=span.end_time_unix_nano,
        attributes=_values(span.attributes),
        failed=span.status.code == ERROR,
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {found.key: getattr(found.value, found.value.WhichOneof("value")) for found in attributes}


@contextmanager
def collecting() -> Iterator[Collector]:
    """Run a collector on a free port."""
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(4))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    collector.url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield collector
    finally:
        server.stop(None).wait()
