"""The gateway against a stand-in for the workers: how their answers and failures appear over HTTP."""

import io
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import apispec
import grpc
import pytest
from flask.testing import FlaskClient
from grpc_health.v1 import health_pb2
from inference.rpc.errors import STATUS as WORKER_STATUS
from web.errors import STATUS, RequestFailed
from web.inference_client import InferenceClient

from protos import infer_pb2
from tests.stack.running import wait_for
from tests.web.conftest import Workers, predict


def test_every_reason_of_the_workers_has_an_http_status() -> None:
    """The two tables agree."""
    assert {reason for _, reason in WORKER_STATUS.values()} <= set(STATUS)


@pytest.mark.parametrize(
    ("grpc_status", "reason", "status"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "EMPTY_IMAGE", 400),
        (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_OPTION", 400),
        (grpc.StatusCode.INVALID_ARGUMENT, "BODY_TOO_LARGE", 413),
        (grpc.StatusCode.INVALID_ARGUMENT, "IMAGE_TOO_LARGE", 413),
        (grpc.StatusCode.INVALID_ARGUMENT, "UNSUPPORTED_FORMAT", 415),
        (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_IMAGE", 422),
        (grpc.StatusCode.INTERNAL, "INTERNAL", 500),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "BUSY", 503),
        (grpc.StatusCode.UNAVAILABLE, "NOT_READY", 503),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", 504),
    ],
)
def test_a_workers_reason_becomes_a_status_and_its_message_is_passed_on(
    http: FlaskClient, workers: Workers, grpc_status: grpc.StatusCode, reason: str, status: int
) -> None:
    """The reason decides, not the gRPC status; BUSY alone makes Envoy admit fewer images."""
    workers.servicer.status = (grpc_status, reason, "a message for the client")
    response = predict(http)
    assert response.status_code == status
    assert (response.json["code"], response.json["message"]) == (reason, "a message for the client")
    assert (response.headers.get("Retry-After") is not None) == (status == 503)
    assert ("X-Workers-Busy" in response.headers) == (reason == "BUSY")


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
def test_a_status_without_a_reason_gets_a_message_of_the_gateway(
    http: FlaskClient, workers: Workers, grpc_status: grpc.StatusCode, status: int, code: str
) -> None:
    """The text of a proxy or a library is not for the client."""
    workers.servicer.status = (grpc_status, "", "upstream connect error, reset reason: secret")
    response = predict(http)
    assert (response.status_code, response.json["code"]) == (status, code)
    assert "secret" not in response.text


def test_without_any_worker_requests_fail_at_once(http: FlaskClient, workers: Workers) -> None:
    """503 with Retry-After; the gateway is not ready."""
    workers.server.stop(None).wait()
    response = predict(http)
    assert (response.status_code, response.json["code"]) == (503, "NOT_READY")
    assert response.headers["Retry-After"] == "1"
    assert http.get("/readyz").status_code == 503


def test_ready_follows_the_workers_health(http: FlaskClient, workers: Workers) -> None:
    """The gateway is alive all the same."""
    for status, expected in (("NOT_SERVING", 503), ("SERVING", 200)):
        workers.health.set("Inference", health_pb2.HealthCheckResponse.ServingStatus.Value(status))
        assert http.get("/readyz").status_code == expected
        assert http.get("/healthz").status_code == 200


def test_the_deadline_is_what_the_client_asks_for_up_to_the_limit(http: FlaskClient, workers: Workers) -> None:
    """Without X-Request-Timeout it is the limit."""
    for headers in ({}, {"X-Request-Timeout": "2"}, {"X-Request-Timeout": "600"}, {"X-Request-Timeout": "+2.0e0"}):
        assert predict(http, **headers).status_code == 200
    default, two, long, scientific = workers.servicer.seconds_left
    assert max(two, scientific) < 3  # gRPC rounds
    assert 3 < default < 6
    assert 3 < long < 6


@pytest.mark.parametrize(
    "timeout", ["0", "0.0009", "-1", "soon", "nan", "", "infinity", "1_0", "1,5", "\uff11", "2 3", "0x10"]
)
def test_a_timeout_that_is_not_a_number_of_seconds_is_refused(http: FlaskClient, timeout: str) -> None:
    """In the digits 0 to 9, and at least a thousandth."""
    response: Any = http.post(
        "/predict",
        data=b"image",
        content_type="image/png",
        environ_overrides={"HTTP_X_REQUEST_TIMEOUT": timeout.encode().decode("latin-1")},
    )
    assert (response.status_code, response.json["code"]) == (400, "INVALID_OPTION")
    assert "must be a number of seconds in the digits 0 to 9, at least 0.001" in response.json["message"]


def test_the_request_id_is_passed_on_as_metadata(http: FlaskClient, workers: Workers) -> None:
    """The worker logs it."""
    predict(http, **{"X-Request-ID": "abc-123"})
    assert workers.servicer.metadata["x-request-id"] == "abc-123"


def test_an_unexpected_error_is_500_without_its_text(
    http: FlaskClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has the text."""

    def broken(*_: Any) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("web.routes.read_image", broken)
    response = predict(http)
    assert (response.status_code, response.json["code"]) == (500, "INTERNAL")
    assert "secret" not in response.text
    assert "secret" in caplog.text


def test_a_batch_has_one_deadline(http: FlaskClient, workers: Workers) -> None:
    """Later images get what is left of it; an entry says which ones exceeded it."""
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


def test_a_batch_larger_than_its_concurrency_keeps_its_order(http: FlaskClient) -> None:
    """Each image has its entry in its place."""
    files = [(io.BytesIO(b"x"), f"{index}.png") for index in range(20)]
    response: Any = http.post("/predict/batch", data={"image": files}, content_type="multipart/form-data")
    assert response.status_code == 200
    assert [entry["imageId"] for entry in response.json["images"]] == [f"{index}.png" for index in range(20)]


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_batch_is_cancelled_when_its_client_disconnects(workers: Workers, concurrency: int) -> None:
    """Calls in progress are cancelled, and the others are not begun."""
    client = InferenceClient(f"127.0.0.1:{workers.port}", [])
    workers.servicer.go.clear()
    here, there = socket.socketpair()
    with here, there, ThreadPoolExecutor(1) as pool:
        images = [infer_pb2.Image(raw_data=b"image")] * 12
        batch = pool.submit(client.predict_all, images, 60, "left", here, concurrency=concurrency)
        wait_for(lambda: len(workers.servicer.seconds_left) == concurrency, "the first calls are in progress")
        there.close()
        with pytest.raises(RequestFailed, match="has disconnected"):
            batch.result(30)
    assert len(workers.servicer.seconds_left) <= concurrency + 1
    workers.servicer.go.set()


def test_a_worker_that_cannot_draw_is_not_an_empty_image(http: FlaskClient) -> None:
    """During a rollout a new gateway may reach old workers."""
    response: Any = http.post("/annotate", data=b"image", content_type="image/png")
    assert (response.status_code, response.json["code"]) == (503, "NOT_READY")


def test_the_description_is_built_once(http: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients revalidate it by its ETag, as they do the other files."""
    monkeypatch.delattr(apispec.APISpec, "to_dict")
    first = http.get("/openapi.json")
    assert (first.status_code, first.content_type) == (200, "application/json")
    assert first.json is not None
    assert first.json["openapi"] == "3.1.0"
    again = http.get("/openapi.json", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
