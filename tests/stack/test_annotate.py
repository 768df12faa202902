"""POST /annotate, through the front door."""

from __future__ import annotations

import base64
import io
import socket
import time

import grpc
import httpx
import pytest
from PIL import Image

from protos import infer_pb2, infer_pb2_grpc
from tests.conftest import encode
from tests.stack.conftest import FrontDoor


def annotate(client: httpx.Client, body: bytes, accept: str = "*/*", **options: str) -> httpx.Response:
    headers = {"Content-Type": "image/webp", "Accept": accept}
    return client.post("/annotate", content=body, params=options, headers=headers)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "JPEG"),
        ("image/*", "JPEG"),
        ("image/png", "PNG"),
        ("image/jpeg;q=0.5, image/png", "PNG"),
        ("image/avif,image/webp,image/png,*/*;q=0.8", "PNG"),
    ],
)
def test_the_picture_comes_back_as_the_caller_prefers(
    client: httpx.Client, astronaut_file: bytes, accept: str, kind: str
) -> None:
    """With the number of faces, and not as it was."""
    response = annotate(client, astronaut_file, accept)
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"] == f"image/{kind.lower()}"
    assert response.headers["X-Face-Count"] == "1"
    assert response.headers["Vary"] == "Accept"
    drawn = Image.open(io.BytesIO(response.content))
    assert (drawn.format, drawn.size) == (kind, (512, 512))
    original = Image.open(io.BytesIO(astronaut_file)).convert("RGB")
    near = (170, 50, 280, 190)
    assert drawn.convert("RGB").crop(near).tobytes() != original.crop(near).tobytes()


def test_all_three_forms_give_the_same_picture(client: httpx.Client, astronaut_file: bytes) -> None:
    """As they give the same faces; the options are where the others are."""
    raw = annotate(client, astronaut_file, labels="false", max_faces="1").content
    form = client.post("/annotate", files={"image": astronaut_file}, data={"labels": "false", "max_faces": "1"})
    text = base64.b64encode(astronaut_file).decode()
    json = client.post("/annotate", json={"image": text, "labels": False, "maxFaces": 1})
    assert raw == form.content == json.content
    assert raw != annotate(client, astronaut_file).content  # with labels


def test_blurred_faces_are_not_found_again(client: httpx.Client, astronaut_file: bytes) -> None:
    """By the service itself."""
    hidden = annotate(client, astronaut_file, style="blur")
    assert hidden.headers["X-Face-Count"] == "1"
    again = client.post("/predict", content=hidden.content, headers={"Content-Type": "image/jpeg"})
    assert again.json()["results"] == []


@pytest.mark.parametrize(
    ("options", "accept", "status", "code", "says"),
    [
        ({"style": "pixel"}, "*/*", 400, "INVALID_OPTION", "boxes or blur"),
        ({"labels": "maybe"}, "*/*", 400, "INVALID_OPTION", "true or false"),
        ({"stile": "blur"}, "*/*", 400, "INVALID_OPTION", "did you mean style?"),
        ({"min_face_size": "3"}, "*/*", 400, "INVALID_OPTION", "at least 12"),
        ({"image_id": "7"}, "*/*", 400, "INVALID_OPTION", "no option"),
        ({"style": "blur", "max_faces": "1"}, "*/*", 400, "INVALID_OPTION", "leave faces unblurred"),
        ({"style": "blur", "min_confidence": "0.9"}, "*/*", 400, "INVALID_OPTION", "leave faces unblurred"),
        ({}, "application/json", 406, "NOT_ACCEPTABLE", "image/jpeg or image/png"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_json(
    client: httpx.Client, astronaut_file: bytes, options: dict[str, str], accept: str, status: int, code: str, says: str
) -> None:
    """In the form of all errors."""
    response = annotate(client, astronaut_file, accept, **options)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert says in response.json()["message"]
    assert response.json()["requestId"]


def test_deeply_nested_json_is_no_word(client: httpx.Client) -> None:
    """Nor is it printed."""
    nested = '{"a":' * 800 + "1" + "}" * 800
    for name in ("labels", "max_faces"):
        body = f'{{"image": "AAAA", "{name}": {nested}}}'
        response = client.post("/annotate", content=body, headers={"Content-Type": "application/json"})
        assert (response.status_code, response.json()["code"]) == (400, "INVALID_OPTION")


def test_a_slow_reader_gets_the_whole_picture(stack: FrontDoor) -> None:
    """However long it takes, as long as it goes on: here longer than any answer may be waited for."""
    body = encode(Image.effect_noise((3400, 3400), 100).convert("RGB"), "JPEG")
    host, _, port = stack.edge.partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        head = f"Host: x\r\nContent-Type: image/jpeg\r\nAccept: image/png\r\nContent-Length: {len(body)}"
        connection.sendall(f"POST /annotate HTTP/1.1\r\n{head}\r\n\r\n".encode() + body)
        answer = connection.makefile("rb")
        assert answer.readline().split()[1] == b"200"
        headers = dict(line.lower().rstrip().split(b": ", 1) for line in iter(answer.readline, b"\r\n"))
        picture, began = b"", time.monotonic()
        while time.monotonic() < began + 20:  # the passing of time is the subject
            picture += answer.read(65536)
            time.sleep(0.125)
        length = int(headers[b"content-length"])
        assert len(picture) < length - 5_000_000, "it is not all in some buffer yet"
        picture += answer.read(length - len(picture))
    assert len(picture) == length
    with Image.open(io.BytesIO(picture)) as drawn:
        drawn.load()


def test_what_to_draw_is_no_option_of_predict(client: httpx.Client, astronaut_file: bytes) -> None:
    """It would have no effect."""
    headers = {"Content-Type": "image/webp"}
    response = client.post("/predict", params={"style": "blur"}, content=astronaut_file, headers=headers)
    assert (response.status_code, response.json()["code"]) == (400, "INVALID_OPTION")


def test_a_style_that_nobody_knows_is_refused(stack: FrontDoor, astronaut_file: bytes) -> None:
    """Of a client that is newer than the service."""
    wish = infer_pb2.Drawing.FromString(b"\x08\x07")  # style = 7
    with grpc.insecure_channel(stack.edge) as channel:
        call = infer_pb2_grpc.InferenceStub(channel).Predict.future(
            infer_pb2.Image(raw_data=astronaut_file, drawing=wish), timeout=30
        )
        assert call.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "BOXES or BLUR" in call.details()


def test_over_grpc_faces_and_picture_come_together(stack: FrontDoor, astronaut_file: bytes) -> None:
    """And no picture for who did not ask for one."""
    with grpc.insecure_channel(stack.edge, options=[("grpc.max_receive_message_length", -1)]) as channel:
        stub = infer_pb2_grpc.InferenceStub(channel)
        wish = infer_pb2.Drawing(format=infer_pb2.Drawing.PNG)
        drawn = stub.Predict(infer_pb2.Image(raw_data=astronaut_file, drawing=wish), timeout=30)
        plain = stub.Predict(infer_pb2.Image(raw_data=astronaut_file), timeout=30)
    assert Image.open(io.BytesIO(drawn.picture)).size == (512, 512)
    assert drawn.results == plain.results
    assert drawn.picture  # with labels, as over HTTP
    assert plain.picture == b""
