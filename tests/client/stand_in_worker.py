"""A worker that fails where a test wants it to."""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

from protos import infer_pb2, infer_pb2_grpc


class StandInWorker(infer_pb2_grpc.InferenceServicer):
    """Answers with the length of the image as its width. Images of some lengths fail, once or always."""

    def __init__(self, trouble: dict[int, str], *, always: bool = False) -> None:
        self.address = ""
        self.seen: Counter[int] = Counter()
        self._trouble = trouble
        self._always = always

    def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802
        return next(self.PredictStream(iter([request]), context))

    def PredictStream(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802
        for image in request_iterator:
            length = len(image.raw_data)
            self.seen[length] += 1
            answer = infer_pb2.InferResults(_meta_data=infer_pb2.MetaData(width=length), picture=b"drawn")
            match self._trouble.get(length) if self._always else self._trouble.pop(length, ""):
                case "busy":
                    yield infer_pb2.InferResults(message="busy", code="BUSY")
                case "lost":
                    context.abort(grpc.StatusCode.INTERNAL, "Received RST_STREAM")
                case "killed":
                    context.abort(grpc.StatusCode.UNAVAILABLE, "Stream removed (Socket closed)")
                case "replaced":
                    context.abort(grpc.StatusCode.UNAVAILABLE, "closing")
                case "ended":
                    return
                case "hung":
                    left = threading.Event()
                    context.add_callback(left.set)
                    left.wait()
                case "older":
                    answer.picture = b""
                    yield answer
                case "bad":
                    yield infer_pb2.InferResults(message="not an image", code="INVALID_IMAGE")
                case _:
                    yield answer


@contextmanager
def working(
    trouble: dict[int, str], *, always: bool = False, host: str = "127.0.0.1", limit: int = -1
) -> Iterator[StandInWorker]:
    """Run one at its address. `limit` is its message limit in bytes; gRPC itself refuses larger ones."""
    options = [("grpc.max_receive_message_length", limit)]
    server = grpc.server(ThreadPoolExecutor(4, "worker"), options=options)
    worker = StandInWorker(trouble, always=always)
    infer_pb2_grpc.add_InferenceServicer_to_server(worker, server)
    worker.address = f"{host}:{server.add_insecure_port(f'{host}:0')}"
    server.start()
    try:
        yield worker
    finally:
        server.stop(None).wait()
