"""The HTTP API: each view reads a request, calls the workers and returns the answer."""

import socket
import time
from http import HTTPStatus
from typing import Any, cast

from flask import Blueprint, Response, current_app, g, jsonify, request
from google.protobuf.json_format import MessageToDict

from protos import infer_pb2
from web import schemas
from web.admission import Admission
from web.draining import is_draining
from web.errors import RequestFailed, error_response, signal_backpressure
from web.image_request import read_body, read_image, read_images
from web.inference_client import InferenceClient
from web.openapi import BARE_IMAGE, FAILURES, SHORTEST_SECONDS, Operation
from web.options import NUMBER, quoted
from web.settings import Settings

api = Blueprint("api", __name__)

PROBES = ("api.healthz", "api.readyz")  # polled all the time
ENVOY_HEALTH_CHECK = "Envoy/HC"  # the user agent of its health checks
DRAWN = ("image/jpeg", "image/png")  # what /annotate returns; the first unless the client prefers the other


@api.post("/predict")
@Operation(
    answers={200: schemas.Prediction},
    options=schemas.PredictOptions,
    bodies={"multipart/form-data": schemas.PredictForm, "application/json": schemas.PredictJson, **BARE_IMAGE},
    failures=FAILURES,
)
def predict() -> Response:
    """Find the faces in one image."""
    read_body(request, _settings().max_body_bytes)
    image = read_image(request)
    return jsonify(_answer(_examine(image)))


@api.post("/predict/batch")
@Operation(
    answers={200: schemas.Batch, 207: schemas.Batch},
    options=schemas.PredictOptions,
    bodies={"multipart/form-data": schemas.BatchForm},
    failures=FAILURES,
)
def predict_batch() -> Response:
    """Find the faces in several images; the answer has an entry with a message for each.

    The status is 200 if all were examined and 207 if any was not: an error never hides behind a 200.
    """
    read_body(request, _settings().max_body_bytes)
    images, limit = read_images(request), _settings().max_batch_images
    if len(images) > limit:
        raise RequestFailed("MALFORMED_REQUEST", f"there are {len(images)} images; send at most {limit} in a batch")
    for image, file in zip(images, request.files.getlist("image"), strict=True):
        image.image_id = image.image_id or file.filename or ""
    _admission().waiting.hold()
    answers = _client().predict_all(
        images, _seconds_left(), g.request_id, _caller(), concurrency=_settings().batch_concurrency
    )
    entries = [_entry(image, answer) for image, answer in zip(images, answers, strict=True)]
    failed = sum(1 for entry in entries if entry["message"])
    message = f"{failed} of {len(entries)} images could not be examined; their entries say why" if failed else ""
    response = jsonify(message=message, images=entries)
    response.status_code = HTTPStatus.MULTI_STATUS if failed else HTTPStatus.OK
    if any(isinstance(answer, RequestFailed) and answer.workers_busy for answer in answers):
        signal_backpressure(response)
    return response


@api.post("/annotate")
@Operation(
    answers={200: DRAWN},
    options=schemas.AnnotateOptions,
    bodies={"multipart/form-data": schemas.AnnotateForm, "application/json": schemas.AnnotateJson, **BARE_IMAGE},
    failures=(*FAILURES, 406),
    headers={"X-Face-Count": "How many faces were found."},
)
def annotate() -> Response:
    """Return the image with its faces drawn or blurred, as JPEG or PNG, whichever `Accept` prefers."""
    read_body(request, _settings().max_body_bytes)
    media_type = request.accept_mimetypes.best_match(DRAWN) if request.accept_mimetypes else DRAWN[0]
    if media_type is None:
        raise RequestFailed("NOT_ACCEPTABLE", f"the answer is {' or '.join(DRAWN)}; accept one of these")
    image = read_image(request, drawing=True)
    image.drawing.format = infer_pb2.Drawing.Format.Value(media_type.removeprefix("image/").upper())
    _admission().drawn_images.hold()
    answer = _examine(image)
    if not answer.picture:
        raise RequestFailed("NOT_READY", "an older worker, which cannot draw, has answered; try again in a second")
    headers = {"Vary": "Accept", "X-Face-Count": str(len(answer.results))}
    return Response(answer.picture, mimetype=media_type, headers=headers)


@api.get("/healthz")
@Operation(answers={200: schemas.Status})
def healthz() -> Response:
    """Report that this process answers."""
    if is_draining() and request.headers.get("User-Agent") == ENVOY_HEALTH_CHECK:
        return error_response("NOT_READY", "this gateway is stopping; another one will answer")
    return jsonify(status="alive")


@api.get("/readyz")
@Operation(answers={200: schemas.Status}, failures=(503,))
def readyz() -> Response:
    """Report whether an image would be examined: Envoy reaches a worker that serves."""
    if _client().is_ready():
        return jsonify(status="ready")
    return error_response("NOT_READY", "no worker is serving yet; try again in a second")


def _settings() -> Settings:
    return cast("Settings", current_app.config["SETTINGS"])


def _client() -> InferenceClient:
    return cast("InferenceClient", current_app.extensions["inference"])


def _admission() -> Admission:
    return cast("Admission", current_app.extensions["admission"])


def _examine(image: infer_pb2.Image) -> infer_pb2.InferResults:
    """Have a worker examine one image. Raises RequestFailed."""
    _admission().waiting.hold()
    return _client().predict(image, _seconds_left(), g.request_id, _caller())


def _caller() -> socket.socket | None:
    """Return the connection on which the client waits for the answer."""
    return cast("socket.socket | None", request.environ.get("gunicorn.socket"))


def _seconds_left() -> float:
    """Return how long the client still waits: its X-Request-Timeout, at most the limit. Raises RequestFailed."""
    limit = _settings().deadline_seconds
    timeout = request.headers.get("X-Request-Timeout", str(limit))
    if not NUMBER.fullmatch(timeout) or float(timeout) < SHORTEST_SECONDS:
        hint = f"it must be a number of seconds in the digits 0 to 9, at least {SHORTEST_SECONDS}"
        raise RequestFailed("INVALID_OPTION", f"X-Request-Timeout is {quoted(timeout)}; {hint}")
    left: float = min(float(timeout), limit) - (time.monotonic() - g.arrived)
    if left <= 0:
        raise RequestFailed("DEADLINE_EXCEEDED", "the deadline passed before the request had arrived; allow more time")
    return left


def _answer(results: infer_pb2.InferResults) -> dict[str, Any]:
    """Return the JSON form of an answer, with the fields that are zero."""
    answer = MessageToDict(results, always_print_fields_with_no_presence=True)
    metadata = answer.get("metaData", {})
    return {
        "message": "",
        "imageId": answer["imageId"],
        "width": metadata.get("width", 0),
        "height": metadata.get("height", 0),
        "results": answer["results"],
        "metaData": metadata,
    }


def _entry(image: infer_pb2.Image, answer: infer_pb2.InferResults | RequestFailed) -> dict[str, Any]:
    if isinstance(answer, RequestFailed):
        if answer.code == "INVALID_OPTION":  # the options apply to all images
            raise answer
        return {"message": answer.message, "code": answer.code, "imageId": image.image_id, "results": []}
    return _answer(answer)
