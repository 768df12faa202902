"""Each shared resource of a gateway process is bounded, refused when it is used up, and given back."""

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import grpc
import pytest
from flask import Flask, Response, request
from flask.testing import FlaskClient
from grpc_health.v1 import health_pb2
from web.admission import DRAWN_IMAGES, LARGE_FILES
from web.app import create_app
from web.metrics import IN_FLIGHT
from web.settings import Settings

from tests.stack.running import wait_for
from tests.web.conftest import Workers, predict

MEGABYTE = 1024 * 1024


def check_refused(response: Any, *, workers_busy: bool) -> None:
    assert (response.status_code, response.json["code"]) == (503, "BUSY")
    assert response.json["message"].endswith("; try again in a second")
    assert response.headers["Retry-After"] == "1"
    assert ("X-Workers-Busy" in response.headers) == workers_busy


def test_with_all_workers_waited_for_health_answers_and_the_rest_is_refused(
    app: Flask, http: FlaskClient, workers: Workers
) -> None:
    """Some threads are kept free for it; Envoy learns that the workers are busy."""
    workers.servicer.go.clear()
    workers.health.set("Inference", health_pb2.HealthCheckResponse.SERVING)
    waiting = 12 - 4
    with ThreadPoolExecutor(waiting) as callers:
        calls = [callers.submit(lambda: predict(app.test_client())) for _ in range(waiting)]
        wait_for(lambda: len(workers.servicer.seconds_left) == waiting, "all are waiting")
        check_refused(predict(http), workers_busy=True)
        assert [http.get(path).status_code for path in ("/healthz", "/readyz")] == [200, 200]
        workers.servicer.go.set()
        assert [call.result().status_code for call in calls] == [200] * waiting


@pytest.mark.parametrize("chunked", [False, True], ids=["with Content-Length", "chunked"])
def test_large_bodies_share_bounded_memory(
    workers: Workers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, chunked: bool
) -> None:
    """One more than fits is refused; small bodies are accepted meanwhile.

    The size of a chunked body is not known in advance, so it counts as the largest.
    """
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr("web.admission.BODY_MEMORY", 3 * MEGABYTE + 1000)
    app = create_app(Settings(inference_target=f"127.0.0.1:{workers.port}", max_body_bytes=MEGABYTE))

    def large() -> Any:
        body: dict[str, Any] = {"data": bytes(MEGABYTE)}
        if chunked:
            body = {
                "input_stream": io.BytesIO(b"small"),
                "headers": {"Transfer-Encoding": "chunked"},
                "environ_overrides": {"wsgi.input_terminated": True},
            }
        return app.test_client().post("/predict", content_type="image/png", **body)

    workers.servicer.go.clear()
    with ThreadPoolExecutor(4) as callers:
        calls = [callers.submit(large) for _ in range(3)]
        wait_for(lambda: len(workers.servicer.seconds_left) == 3, "no memory is left")
        check_refused(large(), workers_busy=False)
        calls.append(callers.submit(lambda: predict(app.test_client())))
        wait_for(lambda: len(workers.servicer.seconds_left) == 4, "a small body is accepted")
        workers.servicer.go.set()
        assert [call.result().status_code for call in calls] == [200] * 4
    assert [large().status_code for _ in range(4)] == [200] * 4


def test_drawn_images_are_held_until_they_are_sent(http: FlaskClient, workers: Workers) -> None:
    """Failed ones are given back at once; /predict is answered meanwhile."""
    workers.servicer.drawn = b"drawn"

    def annotate() -> Any:
        return http.post("/annotate", data=b"image", content_type="image/png")

    unread = [annotate() for _ in range(DRAWN_IMAGES)]
    assert {response.status_code for response in unread} == {200}
    check_refused(annotate(), workers_busy=False)
    assert predict(http).status_code == 200
    for response in unread:
        response.close()
    workers.servicer.status = (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_IMAGE", "no image")
    for _ in range(2 * DRAWN_IMAGES):
        with annotate() as failed:
            assert failed.status_code == 422
    workers.servicer.status = None
    assert annotate().status_code == 200


def test_large_files_are_held_until_they_are_sent(http: FlaskClient) -> None:
    """Small files, 304 and HEAD are answered meanwhile."""

    def get(name: str = "swagger-ui-bundle.js", headers: dict[str, str] | None = None) -> Any:
        return http.get(f"/static/{name}", headers=headers)

    unread = [get() for _ in range(LARGE_FILES)]
    assert {response.status_code for response in unread} == {200}
    check_refused(get(), workers_busy=False)
    assert [get(name).status_code for name in ("page.js", "swagger-ui.css")] == [200, 200]
    assert get(headers={"If-None-Match": unread[0].headers["ETag"]}).status_code == 304
    assert http.head("/static/swagger-ui-bundle.js").status_code == 200
    assert predict(http).status_code == 200
    for response in unread:
        response.close()
    assert [get().status_code for _ in range(LARGE_FILES)] == [200] * LARGE_FILES


def test_a_request_that_fails_late_gives_back_what_it_holds(
    workers: Workers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An error after the view replaces the response, which is then never sent."""

    def end(response: Response) -> Response:
        if "fail" in request.args:
            raise ValueError
        return response

    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr("web.app._end", end)
    http = create_app(Settings(inference_target=f"127.0.0.1:{workers.port}")).test_client()
    path = "/static/swagger-ui-bundle.js"
    assert {http.get(f"{path}?fail").status_code for _ in range(LARGE_FILES + 1)} == {500}
    assert http.get(path).status_code == 200


def test_a_request_that_is_aborted_gives_back_what_it_holds(
    http: FlaskClient, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception that Flask does not catch leaves no response."""
    workers.servicer.drawn = b"drawn"
    in_flight = IN_FLIGHT._value.get()
    with monkeypatch.context() as patch:
        patch.setattr("web.inference_client.InferenceClient.predict", Mock(side_effect=SystemExit))
        for _ in range(DRAWN_IMAGES + 1):
            with pytest.raises(SystemExit):
                http.post("/annotate", data=b"image", content_type="image/png")
    assert IN_FLIGHT._value.get() == in_flight
    assert http.post("/annotate", data=b"image", content_type="image/png").status_code == 200
