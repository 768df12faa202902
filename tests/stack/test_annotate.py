"""POST /annotate, through the edge."""

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
def test_the_drawn_image_has_the_format_that_the_client_prefers(
    client: httpx.Client, astronaut_file: bytes, accept: str, kind: str
) -> None:
    """The answer has the number of faces, and the image has changed where the face is."""
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


def test_all_three_forms_give_the_same_image(client: httpx.Client, astronaut_file: bytes) -> None:
    """The options are where those of /predict are."""
    raw = annotate(client, astronaut_file, labels="false", max_faces="1").content
    form = client.post("/annotate", files={"image": astronaut_file}, data={"labels": "false", "max_faces": "1"})
    text = base64.b64encode(astronaut_file).decode()
    json = client.post("/annotate", json={"image": text, "labels": False, "maxFaces": 1})
    assert raw == form.content == json.content
    assert raw != annotate(client, astronaut_file).content  # with labels


def test_blurred_faces_are_not_found_again(client: httpx.Client, astronaut_file: bytes) -> None:
    """The service itself does not find them."""
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
def test_what_cannot_be_drawn_gets_an_error_in_json(
    client: httpx.Client, astronaut_file: bytes, options: dict[str, str], accept: str, status: int, code: str, says: str
) -> None:
    """With the form of all errors."""
    response = annotate(client, astronaut_file, accept, **options)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert says in response.json()["message"]
    assert response.json()["requestId"]


def test_deeply_nested_json_is_not_a_value(client: httpx.Client) -> None:
    """The message does not repeat it."""
    nested = '{"a":' * 800 + "1" + "}" * 800
    for name in ("labels", "max_faces"):
        body = f'{{"image": "AAAA", "{name}": {nested}}}'
        response = client.post("/annotate", content=body, headers={"Content-Type": "application/json"})
        assert (response.status_code, response.json()["code"]) == (400, "INVALID_OPTION")


def test_a_slow_client_gets_the_whole_image(stack: FrontDoor) -> None:
    """However slowly it reads: here for longer than the longest deadline."""
    body = encode(Image.effect_noise((3400, 3400), 100).convert("RGB"), "JPEG")
    host, _, port = stack.edge.partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        head = f"Host: x\r\nContent-Type: image/jpeg\r\nAccept: image/png\r\nContent-Length: {len(body)}"
        connection.sendall(f"POST /annotate HTTP/1.1\r\n{head}\r\n\r\n".encode() + body)
        answer = connection.makefile("rb")
        assert answer.readline().split()[1] == b"200"
        headers = dict(line.lower().rstrip().split(b": ", 1) for line in iter(answer.readline, b"\r\n"))
        image, began = b"", time.monotonic()
        while time.monotonic() < began + 20:  # elapsed time is the subject
            image += answer.read(65536)
            time.sleep(0.125)
        length = int(headers[b"content-length"])
        assert len(image) < length - 5_000_000, "not all of it is in buffers yet"
        image += answer.read(length - len(image))
    assert len(image) == length
    with Image.open(io.BytesIO(image)) as drawn:
        drawn.load()


def test_predict_refuses_the_options_of_annotate(client: httpx.Client, astronaut_file: bytes) -> None:
    """They would have no effect."""
    headers = {"Content-Type": "image/webp"}
    response = client.post("/predict", params={"style": "blur"}, content=astronaut_file, headers=headers)
    assert (response.status_code, response.json()["code"]) == (400, "INVALID_OPTION")


def test_an_unknown_style_is_refused(stack: FrontDoor, astronaut_file: bytes) -> None:
    """The client may be newer than the service."""
    wish = infer_pb2.Drawing.FromString(b"\x08\x07")  # style = 7
    with grpc.insecure_channel(stack.edge) as channel:
        call = infer_pb2_grpc.InferenceStub(channel).Predict.future(
            infer_pb2.Image(raw_data=astronaut_file, drawing=wish), timeout=30
        )
        assert call.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "BOXES or BLUR" in call.details()


def test_grpc_returns_faces_and_drawn_image_together(stack: FrontDoor, astronaut_file: bytes) -> None:
    """And no image unless the client asks for one."""
    with grpc.insecure_channel(stack.edge, options=[("grpc.max_receive_message_length", -1)]) as channel:
        stub = infer_pb2_grpc.InferenceStub(channel)
        wish = infer_pb2.Drawing(format=infer_pb2.Drawing.PNG)
        drawn = stub.Predict(infer_pb2.Image(raw_data=astronaut_file, drawing=wish), timeout=30)
        plain = stub.Predict(infer_pb2.Image(raw_data=astronaut_file), timeout=30)
    assert Image.open(io.BytesIO(drawn.picture)).size == (512, 512)
    assert drawn.results == plain.results
    assert drawn.picture  # with labels, as over HTTP
    assert plain.picture == b""
