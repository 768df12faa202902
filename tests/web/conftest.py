"""The gateway in this process, and a stand-in for the workers that does what a test tells it."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from flask import Flask
from flask.testing import FlaskClient
from grpc_health.v1 import health, health_pb2_grpc
from grpc_status import rpc_status
from inference.rpc.errors import rich_status
from web.app import create_app
from web.settings import Settings

from protos import infer_pb2, infer_pb2_grpc


class StandIn(infer_pb2_grpc.InferenceServicer):
    """Workers that do what a test tells them."""

    def __init__(self) -> None:
        self.status: tuple[grpc.StatusCode, str, str] | None = None
        self.images: list[infer_pb2.Image] = []
        self.seconds_left: list[float] = []
        self.metadata: dict[str, Any] = {}
        self.drawn = b""
        self.go = threading.Event()
        self.go.set()

    def Predict(self, request: infer_pb2.Image, context: Any) -> infer_pb2.InferResults:  # noqa: N802
        self.images.append(request)
        self.seconds_left.append(context.time_remaining())
        self.metadata = dict(context.invocation_metadata())
        self.go.wait(60)
        if self.status is not None:
            code, reason, message = self.status
            if reason:
                context.abort_with_status(rpc_status.to_status(rich_status(code, reason, message)))
            context.abort(code, message)
        return infer_pb2.InferResults(image_id=request.image_id, picture=self.drawn)

    def PredictStream(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802
        raise NotImplementedError


class Workers:
    """The stand-in as a server."""

    def __init__(self) -> None:
        self.servicer = StandIn()
        self.health = health.HealthServicer()
        self.server = grpc.server(ThreadPoolExecutor(16))
        infer_pb2_grpc.add_InferenceServicer_to_server(self.servicer, self.server)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self.server)
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()


@pytest.fixture
def workers() -> Iterator[Workers]:
    started = Workers()
    yield started
    started.server.stop(None).wait()


@pytest.fixture
def app(workers: Workers, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Flask:
    """The gateway with 12 threads, of which 8 may wait for workers."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path_factory.mktemp("metrics")))
    return create_app(Settings(inference_target=f"127.0.0.1:{workers.port}", deadline_seconds=5, web_threads=12))


@pytest.fixture
def http(app: Flask) -> FlaskClient:
    """A client that leaves responses unread until they are closed."""
    return app.test_client()


def predict(http: FlaskClient, **headers: str) -> Any:
    return http.post("/predict", data=b"image", content_type="image/png", headers=headers)
