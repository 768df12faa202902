"""Images through the edge: HTTP in three forms, gRPC in two, and what comes with an answer."""

import base64
import io
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from inference.imaging.decode import ImageLimits, decode
from inference.mtcnn.detector import DetectOptions, Point
from inference.mtcnn.engines import EngineSettings, load_detector
from inference.mtcnn.steps import Steps
from PIL import Image

from protos import infer_pb2, infer_pb2_grpc
from tests.conftest import encode
from tests.stack.conftest import FrontDoor
from tests.stack.running import RunningStack, wait_for

FORMS = ["json", "multipart", "raw"]


def post(client: httpx.Client, form: str, data: bytes, **options: Any) -> httpx.Response:
    """Send an image in one of the three forms, with its options where the form has them."""
    if form == "json":
        return client.post("/predict", json={"image": base64.b64encode(data).decode(), **options})
    if form == "multipart":
        fields = {name: str(value) for name, value in options.items()}
        return client.post("/predict", files={"image": ("photo.jpg", data)}, data=fields)
    headers = {"Content-Type": "application/octet-stream"}
    return client.post("/predict", content=data, params=options, headers=headers)


@pytest.mark.parametrize("form", FORMS)
def test_the_astronaut_is_found(client: httpx.Client, astronaut_file: bytes, form: str) -> None:
    """One face, 83 x 107 at (182, 64) with a confidence of 0.9991, in every form."""
    response = post(client, form, astronaut_file)
    assert response.status_code == 200
    answer = response.json()
    assert list(answer) == ["message", "imageId", "width", "height", "results", "metaData"]
    assert (answer["message"], answer["width"], answer["height"]) == ("", 512, 512)
    (face,) = answer["results"]
    up_left, lower_right = face["box"]["upLeft"], face["box"]["lowerRight"]
    assert [round(up_left["x"]), round(up_left["y"])] == [182, 64]
    assert [round(lower_right[axis] - up_left[axis]) for axis in ("x", "y")] == [83, 107]
    assert face["confidence"] == pytest.approx(0.9991, abs=5e-5)
    assert set(face["landmarks"]) == {"leftEye", "rightEye", "nose", "mouthLeft", "mouthRight"}


def test_all_forms_give_identical_results(client: httpx.Client, astronaut_file: bytes) -> None:
    """To the last digit, with and without options."""
    for options in ({}, {"min_face_size": 40, "min_confidence": 0.9, "max_faces": 1}):
        answers = [post(client, form, astronaut_file, **options).json()["results"] for form in FORMS]
        assert len(answers[0]) == 1
        assert answers[0] == answers[1] == answers[2]


def test_png_jpeg_and_webp_are_accepted_by_their_media_types(client: httpx.Client, face: Image.Image) -> None:
    """image/* is the bare image."""
    for form in ("png", "jpeg", "webp"):
        data = encode(face, form, quality=95)
        response = client.post("/predict", content=data, headers={"Content-Type": f"image/{form}"})
        assert (response.status_code, len(response.json()["results"])) == (200, 1)


@pytest.mark.parametrize("name", ["image", "rawData", "raw_data"])
def test_json_accepts_each_name_of_the_field(client: httpx.Client, face_file: bytes, name: str) -> None:
    """The proto3 JSON name, the .proto name and the alias; also a data URL, and URL-safe base64 without padding."""
    texts = [
        base64.b64encode(face_file).decode(),
        base64.urlsafe_b64encode(face_file).decode().rstrip("="),
        base64.encodebytes(face_file).decode(),
        "data:image/png;base64," + base64.b64encode(face_file).decode(),
    ]
    for text in texts:
        response = client.post("/predict", json={name: text, "width": 107, "height": 120, "imageId": "seven"})
        assert (response.status_code, len(response.json()["results"])) == (200, 1), response.text
        assert response.json()["imageId"] == "seven"


def test_options_may_be_in_camel_case_and_nested_as_in_the_contract(client: httpx.Client, face_file: bytes) -> None:
    """The output of protobuf's own JSON printer is accepted."""
    image = base64.b64encode(face_file).decode()
    for options in ({"minConfidence": 1}, {"options": {"minConfidence": 1.0}}, {"options": {"min_confidence": 1}}):
        response = client.post("/predict", json={"image": image, **options})
        assert (response.status_code, response.json()["results"]) == (200, [])


@pytest.mark.parametrize("form", FORMS)
def test_no_face_is_an_empty_list(client: httpx.Client, form: str) -> None:
    """200 with no results, also for an image that is too small for a face."""
    for size in ((200, 200), (11, 11), (1, 1), (12, 300)):
        response = post(client, form, encode(Image.new("RGB", size, "teal")))
        assert (response.status_code, response.json()["results"]) == (200, [])
        assert (response.json()["width"], response.json()["height"]) == size


def test_fields_that_are_zero_are_present(client: httpx.Client, astronaut: Image.Image) -> None:
    """A box that is clipped at the image's edge has x = 0, and the answer contains it."""
    response = post(client, "raw", encode(astronaut.crop((200, 40, 400, 220))))
    corners = [face["box"]["upLeft"] for face in response.json()["results"]]
    assert 0 in [corner["x"] for corner in corners], response.text


def test_grpc_gives_the_faces_of_http(stack: FrontDoor, client: httpx.Client, astronaut_file: bytes) -> None:
    """Through the same port."""
    check_grpc(stack.edge, client, astronaut_file)


def test_a_worker_called_directly_gives_the_faces_of_http(
    processes: RunningStack, client: httpx.Client, astronaut_file: bytes
) -> None:
    """On the workers' shared port, and on a worker's own."""
    check_grpc(processes.shared, client, astronaut_file)
    check_grpc(processes.own(processes.serving_slots()[0]), client, astronaut_file)


def check_grpc(target: str, client: httpx.Client, data: bytes) -> None:
    expected = post(client, "raw", data).json()["results"][0]
    with grpc.insecure_channel(target) as channel:
        answer = infer_pb2_grpc.InferenceStub(channel).Predict(infer_pb2.Image(raw_data=data), timeout=60)
    (face,) = answer.results
    assert face.confidence == expected["confidence"]
    assert face.box.up_left.x == pytest.approx(expected["box"]["upLeft"]["x"], abs=1e-3)
    assert face.landmarks.nose.y == pytest.approx(expected["landmarks"]["nose"]["y"], abs=1e-3)


def test_the_answers_are_those_of_the_detector_called_directly(client: httpx.Client, astronaut_file: bytes) -> None:
    """The tiers in between add nothing and lose nothing."""
    decoded = decode(astronaut_file, ImageLimits(max_bytes=10**7, max_pixels=10**6, max_side=1000))
    detector = load_detector("openvino", EngineSettings())
    expected = detector.detect(decoded.pixels, DetectOptions(min_face_size=20), Steps())
    for form in FORMS:
        results = post(client, form, astronaut_file).json()["results"]
        assert len(results) == len(expected) == 1
        for found, face in zip(results, expected, strict=True):
            assert found["confidence"] == pytest.approx(face.confidence, abs=1e-4)
            assert found["box"]["upLeft"] == pytest.approx(as_json(face.box.up_left), abs=1e-2)
            assert found["box"]["lowerRight"] == pytest.approx(as_json(face.box.lower_right), abs=1e-2)
            assert found["landmarks"]["mouthRight"] == pytest.approx(as_json(face.landmarks.mouth_right), abs=1e-2)


def as_json(point: Point) -> dict[str, float]:
    return {"x": point.x, "y": point.y}


# The published contract, without later additions.
CONTRACT = """
syntax = "proto3";
message Point        { float x = 1; float y = 2; }
message Box          { Point up_left = 1; Point lower_right = 2; }
message Landmarks    { Point left_eye = 1; Point right_eye = 2; Point nose = 3;
                       Point mouth_left = 4; Point mouth_right = 5; }
message MetaData     { }
message Image        { bytes raw_data = 1; int32 height = 2; int32 width = 3; string image_id = 4;
                       MetaData _meta_data = 5; }
message Result       { Box box = 1; Landmarks landmarks = 2; double confidence = 3; }
message InferResults { string image_id = 1; MetaData _meta_data = 2; repeated Result results = 3; }
service Inference    { rpc Predict (Image) returns (InferResults) {} }
"""
OLD_CLIENT = """
import sys, grpc, infer_pb2, infer_pb2_grpc
data = open(sys.argv[2], "rb").read()
with grpc.insecure_channel(sys.argv[1]) as channel:
    image = infer_pb2.Image(raw_data=data, width=512, height=512, image_id="old")
    answer = infer_pb2_grpc.InferenceStub(channel).Predict(image, timeout=60)
(face,) = answer.results
corners = (face.box.up_left.x, face.box.up_left.y, face.box.lower_right.x, face.box.lower_right.y)
print(answer.image_id, *map(round, corners), round(face.confidence, 4))
"""


def test_a_client_made_from_the_published_text_works(stack: FrontDoor, tmp_path: Path) -> None:
    """Generated from the contract alone, and run in a process without facet's modules."""
    (tmp_path / "infer.proto").write_text(CONTRACT)
    compiler = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        "-I.",
        "--python_out=.",
        "--grpc_python_out=.",
        "infer.proto",
    ]
    subprocess.run(compiler, cwd=tmp_path, check=True)
    image = Path(__file__).parents[1] / "images/astronaut.webp"
    command = [sys.executable, "-c", OLD_CLIENT, stack.edge, str(image)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["old", "182", "64", "265", "171", "0.9991"]


def test_a_stream_through_the_edge_answers_in_order(stack: FrontDoor, face_file: bytes) -> None:
    """A bad image gets its own answer and does not end the stream."""
    files = [face_file, b"no image", face_file]
    with grpc.insecure_channel(stack.edge) as channel:
        images = (infer_pb2.Image(raw_data=file, image_id=str(index)) for index, file in enumerate(files))
        answers = list(infer_pb2_grpc.InferenceStub(channel).PredictStream(images, timeout=60))
    assert [(answer.image_id, len(answer.results), answer.code) for answer in answers] == [
        ("0", 1, ""),
        ("1", 0, "INVALID_IMAGE"),
        ("2", 1, ""),
    ]


def test_an_image_above_the_limit_is_refused_over_grpc_as_over_http(stack: FrontDoor, face_file: bytes) -> None:
    """With the reason BODY_TOO_LARGE and no status that Envoy or a client repeats; a stream goes on."""
    large = infer_pb2.Image(raw_data=bytes(15 * 2**20))
    good = infer_pb2.Image(raw_data=face_file)
    with grpc.insecure_channel(stack.edge) as channel:
        stub = infer_pb2_grpc.InferenceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Predict(large, timeout=60)
        error: Any = caught.value
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "the limit is 11534336; send a smaller image" in error.details()
        assert b"BODY_TOO_LARGE" in dict(error.trailing_metadata())["grpc-status-details-bin"]
        answers = list(stub.PredictStream(iter([good, large, good]), timeout=60))
    assert [(len(answer.results), answer.code) for answer in answers] == [(1, ""), (0, "BODY_TOO_LARGE"), (1, "")]


def test_a_batch_has_an_entry_per_image(client: httpx.Client, face_file: bytes) -> None:
    """In the order of the files, each with its file's name; 200 if all were examined."""
    empty = encode(Image.new("RGB", (64, 64)))
    names = [f"{index}.png" for index in range(7)]
    files = [("image", (name, face_file if index % 2 else empty)) for index, name in enumerate(names)]
    response = client.post("/predict/batch", files=files)
    assert (response.status_code, response.json()["message"]) == (200, "")
    entries = response.json()["images"]
    assert [entry["imageId"] for entry in entries] == names
    assert [len(entry["results"]) for entry in entries] == [0, 1, 0, 1, 0, 1, 0]
    assert all(entry["message"] == "" for entry in entries)


def test_one_bad_image_does_not_spoil_a_batch(client: httpx.Client, face_file: bytes) -> None:
    """Its entry has the reason; the status is 207, since an error never hides behind a 200."""
    files = [("image", ("a.png", face_file)), ("image", ("b.png", b"no image")), ("image", ("c.png", face_file))]
    response = client.post("/predict/batch", files=files, data={"min_confidence": "0.5"})
    assert (response.status_code, response.json()["message"][:9]) == (207, "1 of 3 im")
    entries = response.json()["images"]
    assert [len(entry["results"]) for entry in entries] == [1, 0, 1]
    assert entries[1]["code"] == "INVALID_IMAGE"
    assert entries[1]["message"]


def test_the_gateway_sends_a_response_in_a_single_write(processes: RunningStack) -> None:
    """It arrives whole, so a process that is killed leaves no half responses."""
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", processes.base), timeout=60) as gateway:
            gateway.sendall(b"GET /healthz HTTP/1.1\r\nHost: facet\r\n\r\n")
            assert gateway.recv(65536).endswith(b'{"status":"alive"}\n')


def test_no_log_line_contains_the_image(stack: FrontDoor, client: httpx.Client, face_file: bytes) -> None:
    """Every line of every tier is JSON and short."""
    assert post(client, "json", face_file).status_code == 200
    for part in ("envoy", "web", "inference"):
        lines = stack.log_lines(part)
        assert lines
        assert max(len(json.dumps(line)) for line in lines) < 2000
        assert all("tier" in line for line in lines)


def test_the_deadline_travels_to_the_worker(stack: FrontDoor, client: httpx.Client, slow_file: bytes) -> None:
    """If it is too short for the image, the answer is 504 and the worker itself stops."""
    headers = {"Content-Type": "application/octet-stream", "X-Request-Timeout": "0.3", "X-Request-ID": "in-a-hurry"}
    response = client.post("/predict", content=slow_file, headers=headers)
    assert (response.status_code, response.json()["code"]) == (504, "DEADLINE_EXCEEDED")

    def stopped() -> bool:
        mine = [line for line in stack.log_lines("inference") if line.get("request_id") == "in-a-hurry"]
        assert all(line["message"] != "predict" for line in mine)  # it was not completed
        # It notices by its own clock or by gRPC's, whichever is first.
        return any(line.get("code") == "DEADLINE_EXCEEDED" or line["message"] == "predict abandoned" for line in mine)

    wait_for(stopped, "the worker gives up")


def test_work_stops_when_the_client_disconnects(
    processes: RunningStack, client: httpx.Client, slow_file: bytes, face_file: bytes
) -> None:
    """The gateway notices, and the worker stops before its next step."""
    headers = {"Content-Type": "application/octet-stream", "X-Request-ID": "hangs-up"}
    with pytest.raises(httpx.ReadTimeout):
        client.post("/predict", content=slow_file, headers=headers, timeout=httpx.Timeout(60, read=0.3))

    def logged(part: str) -> list[dict[str, Any]]:
        return [line for line in processes.log_lines(part) if line.get("request_id") == "hangs-up"]

    wait_for(lambda: any(line.get("code") == "CALLER_LEFT" for line in logged("web")), "the gateway notices")
    wait_for(lambda: logged("inference"), "the worker notices")
    for slot in processes.serving_slots():  # whichever it was, it is free again once it answers
        with grpc.insecure_channel(processes.own(slot)) as channel:
            infer_pb2_grpc.InferenceStub(channel).Predict(infer_pb2.Image(raw_data=face_file), timeout=60)
    assert [line["message"] for line in logged("inference")] == ["predict abandoned"]


def test_health_and_ready(client: httpx.Client) -> None:
    """Both are served at the edge; the metrics are not."""
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready"}
    assert client.get("/metrics").status_code == 404


@pytest.mark.parametrize("service", ["", "Inference"])
def test_grpc_health_answers_at_the_edge(stack: FrontDoor, service: str) -> None:
    """For both service names."""
    check_health(stack.edge, service)


@pytest.mark.parametrize("service", ["", "Inference"])
def test_grpc_health_answers_inside(processes: RunningStack, service: str) -> None:
    """On each port that a probe may use."""
    for target in (processes.internal, processes.shared, processes.own(processes.serving_slots()[0])):
        check_health(target, service)


def check_health(target: str, service: str) -> None:
    with grpc.insecure_channel(target) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_a_large_image_passes_every_hop(client: httpx.Client) -> None:
    """It is close to the body limit; no hop has a lower limit."""
    import numpy as np  # noqa: PLC0415 - only here

    noise = np.random.default_rng(0).integers(0, 255, (1300, 2650, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((2650, 1300)).save(file, "PNG", compress_level=0)
    assert 10_200_000 < len(file.getvalue()) < 10_485_760
    response = client.post("/predict?min_face_size=400", content=file.getvalue(), headers={"Content-Type": "image/png"})
    assert (response.status_code, response.json()["width"]) == (200, 2650), response.text
