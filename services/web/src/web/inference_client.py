"""Calls the workers: one channel per process, a deadline on every call, and errors in the gateway's own words."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from protos import infer_pb2, infer_pb2_grpc
from web.errors import STATUS, UNFORESEEN, RequestFailed

log = logging.getLogger(__name__)

CHANNEL_OPTIONS = [
    # The image was measured when it came in; a limit here would only look like overload.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Envoy repeats what may be repeated, within its budget.
    ("grpc.enable_retries", 0),
    # When Envoy has been away, come back within a second and not within two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]
READY_SECONDS = 1.0

# For a status without a reason of ours: Envoy's, or gRPC's own.
BY_STATUS = {
    grpc.StatusCode.DEADLINE_EXCEEDED: ("DEADLINE_EXCEEDED", "no answer in time; allow more time or send less"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: ("BUSY", "the service is busy; try again in a second"),
    grpc.StatusCode.UNAVAILABLE: ("NOT_READY", "no worker can be reached right now; try again in a second"),
}


class InferenceClient:
    """The service `Inference` behind Envoy. Make it after the fork: a gRPC channel does not survive one."""

    def __init__(self, target: str) -> None:
        channel = grpc.insecure_channel(target, options=CHANNEL_OPTIONS)
        self._inference = infer_pb2_grpc.InferenceStub(channel)
        self._health: Any = health_pb2_grpc.HealthStub(channel)  # its stubs are untyped

    def predict(self, image: infer_pb2.Image, seconds: float, request_id: str) -> infer_pb2.InferResults:
        """Have one image examined within `seconds`. Raises RequestFailed."""
        try:
            return self._inference.Predict(image, timeout=seconds, metadata=_metadata(request_id))
        except grpc.RpcError as error:
            raise _failure(error) from error

    def predict_all(
        self, images: Iterable[infer_pb2.Image], seconds: float, request_id: str, concurrency: int
    ) -> Iterator[infer_pb2.InferResults | RequestFailed]:
        """Have images examined, `concurrency` at a time, and give each its answer or its failure, in their order."""
        calls = (self._inference.Predict.future(i, timeout=seconds, metadata=_metadata(request_id)) for i in images)
        running = list(islice(calls, concurrency))
        while running:
            try:
                yield running.pop(0).result()
            except grpc.RpcError as error:
                yield _failure(error)
            running.extend(islice(calls, 1))

    def is_ready(self) -> bool:
        """Ask through Envoy whether a worker serves."""
        try:
            answer = self._health.Check(health_pb2.HealthCheckRequest(service="Inference"), timeout=READY_SECONDS)
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _metadata(request_id: str) -> tuple[tuple[str, str], ...]:
    return (("x-request-id", request_id),)


def _failure(error: Any) -> RequestFailed:
    """Put a failed call into the gateway's words: the worker's own reason and text, or a sentence for the status."""
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.reason in STATUS:
            return RequestFailed(info.reason, status.message)
    code = error.code()
    log.warning("call failed", extra={"grpc_status": code.name, "details": error.details()})
    return RequestFailed(*BY_STATUS.get(code, ("INTERNAL", UNFORESEEN)))
