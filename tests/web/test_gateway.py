"""The gateway against a stand-in for the workers that answers with any status: what becomes of it over HTTP."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from flask.testing import FlaskClient
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from inference.rpc.errors import STATUS as WORKER_STATUS
from inference.rpc.errors import rich_status
from web.admission import DRAWN_IMAGES, LARGE_FILES
from web.app import create_app
from web.errors import STATUS, RequestFailed
from web.inference_client import InferenceClient
from web.settings import Settings

from protos import infer_pb2, infer_pb2_grpc
from tests.stack.running import wait_for


class StandIn(infer_pb2_grpc.InferenceServicer):
    """Workers that do what a test tells them."""

    def __init__(self) -> None:
        self.status: tuple[grpc.StatusCode, str, str] | None = None
        self.seconds_left: list[float] = []
        self.metadata: dict[str, Any] = {}
        self.picture = b""
        self.go = threading.Event()
        self.go.set()

    def Predict(self, request: infer_pb2.Image, context: Any) -> infer_pb2.InferResults:  # noqa: N802
        self.seconds_left.append(context.time_remaining())
        self.metadata = dict(context.invocation_metadata())
        self.go.wait(60)
        if self.status is not None:
            code, reason, message = self.status
            if reason:
                context.abort_with_status(rpc_status.to_status(rich_status(code, reason, message)))
            context.abort(code, message)
        return infer_pb2.InferResults(image_id=request.image_id, picture=self.picture)

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
def http(workers: Workers, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path_factory.mktemp("metrics")))
    app = create_app(Settings(inference_target=f"127.0.0.1:{workers.port}", deadline_seconds=5, web_threads=12))
    return app.test_client()


def predict(http: FlaskClient, **headers: str) -> Any:
    return http.post("/predict", data=b"picture", content_type="image/png", headers=headers)


def test_every_reason_of_the_workers_has_an_http_status() -> None:
    """The two tables belong together."""
    assert {reason for _, reason in WORKER_STATUS.values()} <= set(STATUS)


@pytest.mark.parametrize(
    ("grpc_status", "reason", "status", "code"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "EMPTY_IMAGE", 400, "EMPTY_IMAGE"),
        (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_OPTION", 400, "INVALID_OPTION"),
        (grpc.StatusCode.INVALID_ARGUMENT, "IMAGE_TOO_LARGE", 413, "IMAGE_TOO_LARGE"),
        (grpc.StatusCode.INVALID_ARGUMENT, "UNSUPPORTED_FORMAT", 415, "UNSUPPORTED_FORMAT"),
        (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_IMAGE", 422, "INVALID_IMAGE"),
        (grpc.StatusCode.INTERNAL, "INTERNAL", 500, "INTERNAL"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "BUSY", 503, "BUSY"),
        (grpc.StatusCode.UNAVAILABLE, "NOT_READY", 503, "NOT_READY"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", 504, "DEADLINE_EXCEEDED"),
    ],
)
def test_a_workers_reason_becomes_a_status_and_its_text_is_passed_on(
    http: FlaskClient, workers: Workers, grpc_status: grpc.StatusCode, reason: str, status: int, code: str
) -> None:
    """It was written for the sender."""
    workers.servicer.status = (grpc_status, reason, "words for the sender")
    response = predict(http)
    assert response.status_code == status
    assert response.json["code"] == code
    assert response.json["message"] == "words for the sender"
    assert (response.headers.get("Retry-After") is not None) == (status == 503)
    assert ("X-Workers-Busy" in response.headers) == (code == "BUSY")  # what the edge paces itself by


@pytest.mark.parametrize(
    ("grpc_status", "status", "code"),
    [
        (grpc.StatusCode.UNAVAILABLE, 503, "NOT_READY"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 503, "BUSY"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, 504, "DEADLINE_EXCEEDED"),
        (grpc.StatusCode.UNKNOWN, 500, "INTERNAL"),
        (grpc.StatusCode.INVALID_ARGUMENT, 500, "INTERNAL"),
        (grpc.StatusCode.UNIMPLEMENTED, 500, "INTERNAL"),
    ],
)
def test_a_status_without_a_reason_is_put_into_our_words(
    http: FlaskClient, workers: Workers, grpc_status: grpc.StatusCode, status: int, code: str
) -> None:
    """A proxy's or a library's text is not for the sender."""
    workers.servicer.status = (grpc_status, "", "upstream connect error, reset reason: secret")
    response = predict(http)
    assert (response.status_code, response.json["code"]) == (status, code)
    assert "secret" not in response.text


def test_no_worker_at_all_is_503_at_once(http: FlaskClient, workers: Workers) -> None:
    """And not ready."""
    workers.server.stop(None).wait()
    response = predict(http)
    assert (response.status_code, response.json["code"]) == (503, "NOT_READY")
    assert response.headers["Retry-After"] == "1"
    assert http.get("/readyz").status_code == 503


def test_ready_is_what_health_says(http: FlaskClient, workers: Workers) -> None:
    """Alive all the same."""
    for status, expected in (("NOT_SERVING", 503), ("SERVING", 200)):
        workers.health.set("Inference", health_pb2.HealthCheckResponse.ServingStatus.Value(status))
        assert http.get("/readyz").status_code == expected
        assert http.get("/healthz").status_code == 200


def test_the_deadline_is_the_wish_and_at_most_the_limit(http: FlaskClient, workers: Workers) -> None:
    """Without a wish the limit; a longer wish is cut."""
    for wish in ({}, {"X-Request-Timeout": "2"}, {"X-Request-Timeout": "600"}):
        assert predict(http, **wish).status_code == 200
    unsaid, two, long = workers.servicer.seconds_left
    assert two < 3  # gRPC rounds
    assert 3 < unsaid < 6
    assert 3 < long < 6


def test_the_request_id_goes_on_as_metadata(http: FlaskClient, workers: Workers) -> None:
    """The worker logs it."""
    predict(http, **{"X-Request-ID": "abc-123"})
    assert workers.servicer.metadata["x-request-id"] == "abc-123"


def test_a_fault_of_ours_is_500_without_its_text(
    http: FlaskClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has it."""

    def broken(*_: Any) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("web.routes.read_image", broken)
    response = predict(http)
    assert (response.status_code, response.json["code"]) == (500, "INTERNAL")
    assert "secret" not in response.text
    assert "secret" in caplog.text


def test_a_batch_has_one_deadline_for_all(http: FlaskClient, workers: Workers) -> None:
    """Those that are begun late have what is left, not the whole again; each says so in its entry."""
    workers.servicer.go.clear()
    files = [(io.BytesIO(b"x"), f"{index}.png") for index in range(12)]
    response: Any = http.post(
        "/predict/batch",
        data={"image": files},
        content_type="multipart/form-data",
        headers={"X-Request-Timeout": "0.5"},
    )
    workers.servicer.go.set()
    assert response.status_code == 207
    assert [entry["code"] for entry in response.json["images"]] == ["DEADLINE_EXCEEDED"] * 12
    assert all(left < 0.4 for left in workers.servicer.seconds_left[4:])


def test_with_all_places_taken_health_answers_and_the_rest_is_refused_at_once(
    http: FlaskClient, workers: Workers
) -> None:
    """Some threads are kept free for it."""
    workers.servicer.go.clear()
    workers.health.set("Inference", health_pb2.HealthCheckResponse.SERVING)
    places = 12 - 4
    with ThreadPoolExecutor(places) as callers:
        waiting = [callers.submit(lambda: predict(http.application.test_client())) for _ in range(places)]
        wait_for(lambda: len(workers.servicer.seconds_left) == places, "all places are taken")
        refused = predict(http)
        assert (refused.status_code, refused.json["code"]) == (503, "BUSY")
        assert [http.get(path).status_code for path in ("/healthz", "/readyz")] == [200, 200]
        workers.servicer.go.set()
        assert [call.result().status_code for call in waiting] == [200] * places


@pytest.mark.parametrize("chunked", [False, True], ids=["with Content-Length", "chunked"])
def test_large_bodies_have_bounded_room_and_give_it_back(
    workers: Workers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, chunked: bool
) -> None:
    """One more than fits is refused at once; small ones go on, and so does the next large one when there is room.

    A body in chunks does not say how large it is, and counts as the largest.
    """
    megabyte = 1024 * 1024
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr("web.admission.BODY_MEMORY", 3 * megabyte + 1000)
    app = create_app(Settings(inference_target=f"127.0.0.1:{workers.port}", max_body_bytes=megabyte))

    def large() -> Any:
        body: dict[str, Any] = {"data": bytes(megabyte)}
        if chunked:
            body = {
                "input_stream": io.BytesIO(b"small"),
                "headers": {"Transfer-Encoding": "chunked"},
                "environ_overrides": {"wsgi.input_terminated": True},
            }
        return app.test_client().post("/predict", content_type="image/png", **body)

    workers.servicer.go.clear()
    with ThreadPoolExecutor(4) as callers:
        waiting = [callers.submit(large) for _ in range(3)]
        wait_for(lambda: len(workers.servicer.seconds_left) == 3, "there is no room left")
        refused = large()
        assert (refused.status_code, refused.json["code"]) == (503, "BUSY")
        assert "X-Workers-Busy" not in refused.headers
        small = callers.submit(lambda: predict(app.test_client()))
        wait_for(lambda: len(workers.servicer.seconds_left) == 4, "a small one finds room")
        workers.servicer.go.set()
        assert [call.result().status_code for call in (*waiting, small)] == [200] * 4
    assert [large().status_code for _ in range(4)] == [200] * 4


def test_a_batch_asks_for_a_few_at_a_time_and_keeps_the_order(http: FlaskClient) -> None:
    """More than its concurrency, and each in its place."""
    files = [(io.BytesIO(b"x"), f"{index}.png") for index in range(20)]
    response: Any = http.post("/predict/batch", data={"image": files}, content_type="multipart/form-data")
    assert response.status_code == 200
    assert [entry["imageId"] for entry in response.json["images"]] == [f"{index}.png" for index in range(20)]


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_batch_ends_when_its_caller_leaves(workers: Workers, concurrency: int) -> None:
    """Those under way are given up, and the rest is not begun."""
    client = InferenceClient(f"127.0.0.1:{workers.port}", [])
    workers.servicer.go.clear()
    here, there = socket.socketpair()
    with here, there, ThreadPoolExecutor(1) as pool:
        images = [infer_pb2.Image(raw_data=b"picture")] * 12
        batch = pool.submit(client.predict_all, images, 60, "left", here, concurrency=concurrency)
        wait_for(lambda: len(workers.servicer.seconds_left) == concurrency, "the first are under way")
        there.close()
        with pytest.raises(RequestFailed, match="has disconnected"):
            batch.result(30)
    assert len(workers.servicer.seconds_left) <= concurrency + 1
    workers.servicer.go.set()


def test_a_worker_that_cannot_draw_yet_is_no_empty_picture(http: FlaskClient) -> None:
    """During a rollout a new gateway meets old workers."""
    response: Any = http.post("/annotate", data=b"picture", content_type="image/png")
    assert (response.status_code, response.json["code"]) == (503, "NOT_READY")


def test_pictures_that_are_drawn_have_few_places_and_give_them_back(http: FlaskClient, workers: Workers) -> None:
    """When their caller has taken them, or when they fail; the others go on meanwhile."""
    workers.servicer.picture = b"drawn"

    def annotate() -> Any:
        return http.post("/annotate", data=b"picture", content_type="image/png")

    kept = [annotate() for _ in range(DRAWN_IMAGES)]  # none of them is closed, as if nobody had read it yet
    assert {response.status_code for response in kept} == {200}
    assert (annotate().status_code, annotate().json["code"]) == (503, "BUSY")
    assert predict(http).status_code == 200
    for response in kept:
        response.close()
    workers.servicer.status = (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_IMAGE", "no picture")
    for _ in range(2 * DRAWN_IMAGES):
        with annotate() as failed:
            assert failed.status_code == 422
    workers.servicer.status = None
    assert annotate().status_code == 200


def test_large_files_have_few_places_and_give_them_back(http: FlaskClient) -> None:
    """When they are sent, or left; small ones go on meanwhile, and nothing tells the edge of full workers."""

    def get(name: str = "swagger-ui-bundle.js", headers: dict[str, str] | None = None) -> Any:
        return http.get(f"/static/{name}", headers=headers)

    kept = [get() for _ in range(LARGE_FILES)]  # none of them is closed, as if nobody had read it yet
    assert {response.status_code for response in kept} == {200}
    refused = get()
    assert (refused.status_code, refused.json["code"], refused.headers["Retry-After"]) == (503, "BUSY", "1")
    assert "X-Workers-Busy" not in refused.headers
    assert [get(name).status_code for name in ("page.js", "swagger-ui.css")] == [200, 200]
    assert get(headers={"If-None-Match": kept[0].headers["ETag"]}).status_code == 304
    assert http.head("/static/swagger-ui-bundle.js").status_code == 200
    assert predict(http).status_code == 200
    for response in kept:
        response.close()
    assert [get().status_code for _ in range(LARGE_FILES)] == [200] * LARGE_FILES
