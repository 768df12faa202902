"""A trace collector for a container, which prints a line per span; the worker's image has all it needs."""

import json
from concurrent.futures import ThreadPoolExecutor

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


class Printer(trace_service_pb2_grpc.TraceServiceServicer):
    """Answers every export."""

    def Export(  # noqa: N802
        self, request: trace_service_pb2.ExportTraceServiceRequest, _context: grpc.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        for group in request.resource_spans:
            service = next(
                found.value.string_value for found in group.resource.attributes if found.key == "service.name"
            )
            for span in (span for scope in group.scope_spans for span in scope.spans):
                print(json.dumps({"trace": span.trace_id.hex(), "span": f"{service}: {span.name}"}), flush=True)  # noqa: T201
        return trace_service_pb2.ExportTraceServiceResponse()


server = grpc.server(ThreadPoolExecutor(1))  # one thread: two would write into each other's lines
trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Printer(), server)  # type: ignore[no-untyped-call]
server.add_insecure_port("0.0.0.0:4317")
server.start()
server.wait_for_termination()
