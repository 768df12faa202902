"""Calls the workers: one channel per process, a deadline on every call, and errors in the gateway's own words."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from protos import infer_pb2, infer_pb2_grpc
from web.client_disconnects import ClientDisconnects
from web.errors import BY_GRPC_STATUS, STATUS, UNFORESEEN, RequestFailed

log = logging.getLogger(__name__)

CHANNEL_OPTIONS = [
    # The image was measured when it came in; a limit here would only look like overload.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Envoy repeats what may be repeated, within its budget; no policy here says to. But a call that it has not begun,
    # since it drains and says GOAWAY, is made anew by gRPC itself, if it still holds the picture.
    ("grpc.per_rpc_retry_buffer_size", 16 * 1024 * 1024),
    # Envoy is next door, whatever http_proxy says.
    ("grpc.enable_http_proxy", 0),
    # An Envoy whose machine is gone neither answers nor refuses: within 10 s another one is called.
    ("grpc.keepalive_time_ms", 5000),
    ("grpc.keepalive_timeout_ms", 5000),
    # When Envoy has been away, come back within a second and not within two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.min_reconnect_backoff_ms", 1000),  # the time that one attempt has, also on a machine without a CPU to spare
]
READY_SECONDS = 1.0
SPARE_SECONDS = 0.25  # more than the caller allows: Envoy takes it off, and says when the time is over, see envoy.yaml

DISCONNECTED = "the client has disconnected"

Answer = infer_pb2.InferResults


class InferenceClient:
    """The service `Inference` behind Envoy. Make it after the fork: a gRPC channel does not survive one."""

    def __init__(self, target: str, interceptors: Sequence[grpc.UnaryUnaryClientInterceptor]) -> None:
        channel = grpc.intercept_channel(grpc.insecure_channel(target, CHANNEL_OPTIONS), *interceptors)
        self._inference = infer_pb2_grpc.InferenceStub(channel)
        self._disconnects = ClientDisconnects()
        self._health: Any = health_pb2_grpc.HealthStub(channel)  # its stubs are untyped

    def predict(self, image: infer_pb2.Image, seconds: float, request_id: str, caller: socket.socket | None) -> Answer:
        """Have one image examined within `seconds`, or until the caller has left. Raises RequestFailed."""
        due = time.monotonic() + seconds
        call = self._begin(image, due, request_id)
        with self._disconnects.watch(caller, call.cancel):
            return _result(call, due)

    def predict_all(
        self,
        images: Iterable[infer_pb2.Image],
        seconds: float,
        request_id: str,
        caller: socket.socket | None,
        *,
        concurrency: int,
    ) -> list[Answer | RequestFailed]:
        """Have images examined, all of them within `seconds`, and give each its answer or its failure, in their order.

        `concurrency` of them are under way at a time. Raises RequestFailed when the caller has left.
        """
        due = time.monotonic() + seconds
        calls = (self._begin(image, due, request_id) for image in images)
        running = deque(islice(calls, concurrency))
        disconnected = threading.Event()

        def cancel() -> None:
            disconnected.set()
            for call in list(running):
                call.cancel()

        answers: list[Answer | RequestFailed] = []
        with self._disconnects.watch(caller, cancel):
            while running:
                try:
                    answers.append(_result(running[0], due))  # it stays there meanwhile, to be given up with the others
                except RequestFailed as failure:
                    answers.append(failure)
                running.popleft()
                running.extend(islice(calls, 1))
                if disconnected.is_set():
                    cancel()
                    raise RequestFailed("CALLER_LEFT", DISCONNECTED)
        return answers

    def _begin(self, image: infer_pb2.Image, due: float, request_id: str) -> Any:
        seconds = max(0.0, due - time.monotonic()) + SPARE_SECONDS
        return self._inference.Predict.future(image, timeout=seconds, metadata=(("x-request-id", request_id),))

    def is_ready(self) -> bool:
        """Ask through Envoy whether a worker serves."""
        try:
            answer = self._health.Check(health_pb2.HealthCheckRequest(service="Inference"), timeout=READY_SECONDS)
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _result(call: Any, due: float) -> Answer:
    done = threading.Event()
    call.add_done_callback(lambda _: done.set())
    done.wait()  # its result() would wake up ten times a second to look
    try:
        answer: Answer = call.result()
    except grpc.FutureCancelledError:
        raise RequestFailed("CALLER_LEFT", DISCONNECTED) from None
    except grpc.RpcError as error:
        raise _failure(error, late=time.monotonic() >= due) from error
    return answer


def _failure(error: Any, *, late: bool) -> RequestFailed:
    """Put a failed call into the gateway's words: the worker's own reason and text, or a sentence for the status."""
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.reason in STATUS:
            return RequestFailed(info.reason, status.message, workers_busy=info.reason == "BUSY")
    # When its time is over in the middle of the answer, Envoy breaks it off without a word.
    code = grpc.StatusCode.DEADLINE_EXCEEDED if late else error.code()
    log.warning("call failed", extra={"grpc_status": code.name, "details": error.details()})
    return RequestFailed(*BY_GRPC_STATUS.get(code, ("INTERNAL", UNFORESEEN)))
