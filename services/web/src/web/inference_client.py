"""Calls the workers: one channel per process, a deadline on every call, and failures as reasons of `errors`."""

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
from web.errors import BY_GRPC_STATUS, STATUS, UNEXPECTED, RequestFailed

log = logging.getLogger(__name__)

CHANNEL_OPTIONS = [
    # The body was bounded when it was read; a limit here would only look like overload.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Retries are Envoy's, within its budget; no policy here adds any. But when Envoy drains and sends GOAWAY, gRPC
    # itself repeats a call that Envoy has not begun, provided that it still holds the image.
    ("grpc.per_rpc_retry_buffer_size", 16 * 1024 * 1024),
    # Ignore http_proxy: Envoy is in our own network.
    ("grpc.enable_http_proxy", 0),
    # An Envoy whose machine is gone neither answers nor refuses: give up on it within 10 s and call another.
    ("grpc.keepalive_time_ms", 5000),
    ("grpc.keepalive_timeout_ms", 5000),
    # Reconnect within a second after Envoy has been away; gRPC's default grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.min_reconnect_backoff_ms", 1000),  # the time for one attempt, enough on a busy machine
]
READY_SECONDS = 1.0
SPARE_SECONDS = 0.25  # beyond the client's deadline: Envoy subtracts it and reports the deadline, see envoy.yaml

DISCONNECTED = "the client has disconnected"

Answer = infer_pb2.InferResults


class InferenceClient:
    """The service `Inference` behind Envoy. Create it after the fork: a gRPC channel does not survive one."""

    def __init__(self, target: str, interceptors: Sequence[grpc.UnaryUnaryClientInterceptor]) -> None:
        channel = grpc.intercept_channel(grpc.insecure_channel(target, CHANNEL_OPTIONS), *interceptors)
        self._inference = infer_pb2_grpc.InferenceStub(channel)
        self._disconnects = ClientDisconnects()
        self._health: Any = health_pb2_grpc.HealthStub(channel)  # its stubs are untyped

    def predict(self, image: infer_pb2.Image, seconds: float, request_id: str, caller: socket.socket | None) -> Answer:
        """Have one image examined within `seconds`; cancel if the client disconnects. Raises RequestFailed."""
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
        """Have images examined within `seconds` altogether; return an answer or a failure for each, in order.

        At most `concurrency` calls run at a time. Raises RequestFailed if the client disconnects.
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
                    answers.append(_result(running[0], due))  # stays in `running`, so that it can be cancelled
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
        """Check through Envoy whether a worker is serving."""
        try:
            answer = self._health.Check(health_pb2.HealthCheckRequest(service="Inference"), timeout=READY_SECONDS)
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _result(call: Any, due: float) -> Answer:
    done = threading.Event()
    call.add_done_callback(lambda _: done.set())
    done.wait()  # result() would wake up ten times a second
    try:
        answer: Answer = call.result()
    except grpc.FutureCancelledError:
        raise RequestFailed("CALLER_LEFT", DISCONNECTED) from None
    except grpc.RpcError as error:
        raise _failure(error, late=time.monotonic() >= due) from error
    return answer


def _failure(error: Any, *, late: bool) -> RequestFailed:
    """Translate a failed call: to the worker's own reason and message, or to a reason for its status."""
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.reason in STATUS:
            return RequestFailed(info.reason, status.message, workers_busy=info.reason == "BUSY")
    # When the deadline passes in the middle of an answer, Envoy resets the stream without a status.
    code = grpc.StatusCode.DEADLINE_EXCEEDED if late else error.code()
    log.warning("call failed", extra={"grpc_status": code.name, "details": error.details()})
    return RequestFailed(*BY_GRPC_STATUS.get(code, ("INTERNAL", UNEXPECTED)))
