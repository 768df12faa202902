"""What bad input gets through the edge; the next good image is answered exactly as before.

tests/web/test_image_request.py has what the gateway itself refuses.
"""

import base64
import json
import socket
import struct
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.conftest import encode
from tests.crafted_images import chunk, pixel, png, png_header
from tests.stack.conftest import FrontDoor
from tests.stack.running import RunningStack
from tests.stack.test_predict import FORMS, post

LIMIT = 10 * 1024 * 1024


@pytest.fixture(autouse=True)
def _the_next_good_image_is_answered_as_before(client: httpx.Client, face_file: bytes) -> Iterator[None]:
    before = post(client, "raw", face_file).json()["results"]
    yield
    assert len(before) == 1
    assert post(client, "raw", face_file).json()["results"] == before


def says(response: httpx.Response, status: int, code: str, *words: str) -> None:
    """Check the documented form of an error."""
    assert response.status_code == status, response.text
    error = response.json()
    assert (sorted(error), error["code"]) == (["code", "message", "requestId"], code)
    assert error["requestId"] == response.headers["X-Request-ID"]
    for word in words:
        assert word in error["message"]


def test_a_bad_image_gets_a_status_and_a_code(client: httpx.Client) -> None:
    """Empty, truncated, damaged, too large, or in another format."""
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 255, (300, 300, 3), dtype=np.uint8))
    white = encode(Image.new("1", (20000, 20000), 1), optimize=True)
    assert len(white) < 100_000
    no_palette = png(chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 3, 0, 0, 0)), pixel)
    for name, data, status, code in (
        ("an empty file", b"", 400, "EMPTY_IMAGE"),
        ("text called .jpg", b"this is not an image\n", 422, "INVALID_IMAGE"),
        ("a truncated JPEG", encode(noise, "JPEG")[:20000], 422, "INVALID_IMAGE"),
        ("a truncated PNG", encode(noise)[:20000], 422, "INVALID_IMAGE"),
        ("a truncated WebP", encode(noise, "WEBP")[:9000], 422, "INVALID_IMAGE"),
        ("a GIF", encode(noise, "GIF"), 415, "UNSUPPORTED_FORMAT"),
        ("a TIFF", encode(noise, "TIFF"), 415, "UNSUPPORTED_FORMAT"),
        ("a small file of 400 megapixels", white, 413, "IMAGE_TOO_LARGE"),
        ("65000 x 1", png_header(65000, 1), 413, "IMAGE_TOO_LARGE"),
        ("a header without pixels", png_header(100, 100), 422, "INVALID_IMAGE"),
        ("zeros", bytes(1000), 422, "INVALID_IMAGE"),
        ("a palette image without a palette", no_palette, 422, "INVALID_IMAGE"),
    ):
        response = post(client, "raw", data)
        assert (name, response.status_code, response.json()["code"]) == (name, status, code)
        says(response, status, code)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gets_the_same_answers(client: httpx.Client, face: Image.Image, form: str) -> None:
    """A bad image, bad options in the gateway and in the worker, and a rotated image."""
    bad, good = post(client, form, b"no image"), encode(face)
    says(bad, 422, "INVALID_IMAGE")
    assert bad.json()["message"] == post(client, "raw", b"no image").json()["message"]
    says(post(client, form, good, max_faces=2**40), 400, "INVALID_OPTION", "at most 2147483647")
    for option, value, words in (
        ("min_face_size", 11, "at least 12"),
        ("min_confidence", 1.01, "between 0 and 1"),
        ("min_confidence", -0.1, "between 0 and 1"),
        ("max_faces", -1, "0 for all"),
    ):
        says(post(client, form, good, **{option: value}), 400, "INVALID_OPTION", words)
    rotated = encode(face.transpose(Image.Transpose.ROTATE_90), exif=exif(6))
    assert post(client, form, rotated).json()["results"] == post(client, "raw", good).json()["results"] != []


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def test_an_unusual_image_is_examined(client: httpx.Client, face: Image.Image) -> None:
    """Its one face is found close to where it is in the plain image."""
    gray = np.asarray(face.convert("L")).astype(np.uint16)
    alpha = face.convert("RGBA")
    alpha.putpixel((0, 0), (0, 0, 0, 0))
    other = Image.new("RGB", face.size)
    plain = post(client, "raw", encode(face)).json()["results"][0]["box"]["upLeft"]
    for name, data in {
        "16 bits": encode(Image.fromarray(gray * 257)),
        "CMYK": encode(face.convert("CMYK"), "JPEG", quality=95),
        "palette": encode(face.convert("P", palette=Image.Palette.ADAPTIVE, colors=256)),
        "alpha": encode(alpha),
        "gray": encode(face.convert("L")),
        "gray with alpha": encode(face.convert("LA")),
        "MPO": encode(face, "MPO", save_all=True, append_images=[other], quality=95),
        "APNG": encode(face, save_all=True, append_images=[other]),
        "animated WebP": encode(face, "WEBP", save_all=True, append_images=[other], lossless=True),
    }.items():
        response = post(client, "raw", data)
        assert response.status_code == 200, (name, response.text)
        (found,) = response.json()["results"]
        assert found["box"]["upLeft"]["x"] == pytest.approx(plain["x"], abs=4), name
        assert found["box"]["upLeft"]["y"] == pytest.approx(plain["y"], abs=4), name


def test_boxes_are_those_of_the_upright_image(client: httpx.Client, face: Image.Image) -> None:
    """However the camera was held, the answer is that of the upright image and reports the orientation."""
    upright = post(client, "raw", encode(face)).json()
    for orientation, undo in {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }.items():
        stored = face if undo is None else face.transpose(undo)
        turned = post(client, "raw", encode(stored, exif=exif(orientation))).json()
        assert turned["results"] == upright["results"], orientation
        assert (turned["width"], turned["height"]) == face.size
        assert turned["metaData"]["orientation"] == orientation


def body_of(form: str, size: int) -> tuple[bytes, str]:
    """A body of exactly this many bytes, well-formed up to the image, which is not one; and its media type."""
    if form == "raw":
        return b"\1" * size, "application/octet-stream"
    if form == "json":
        frame = len(json.dumps({"image": ""}))
        spaces = (size - frame) % 4
        text = base64.b64encode(b"\1" * ((size - frame) // 4 * 3)).decode()
        return json.dumps({"image": text}).encode() + b" " * spaces, "application/json"
    head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    tail = b"\r\n--b--\r\n"
    return head + b"\1" * (size - len(head) - len(tail)) + tail, "multipart/form-data; boundary=b"


@pytest.mark.parametrize("chunked", [False, True], ids=["with Content-Length", "chunked"])
def test_the_body_limit_is_exact(stack: FrontDoor, client: httpx.Client, *, chunked: bool) -> None:
    """A body of the limit is examined (and is not an image), one more byte is refused."""
    check_the_limit(stack.url, client, chunked=chunked)


@pytest.mark.parametrize("chunked", [False, True], ids=["with Content-Length", "chunked"])
def test_the_gateway_checks_the_body_limit_itself(
    processes: RunningStack, client: httpx.Client, *, chunked: bool
) -> None:
    """Without Envoy in front of it."""
    check_the_limit(processes.gateway_url, client, chunked=chunked)


def check_the_limit(url: str, client: httpx.Client, *, chunked: bool) -> None:
    for form in FORMS:
        for size in (LIMIT, LIMIT + 1):
            body, kind = body_of(form, size)
            assert len(body) == size
            content = iter([body[:1000], body[1000:]]) if chunked else body
            response = client.post(f"{url}/predict", content=content, headers={"Content-Type": kind})
            if size > LIMIT:
                says(response, 413, "BODY_TOO_LARGE", "10485760 bytes")
            else:
                says(response, 422, "INVALID_IMAGE")


def test_a_bad_option_fails_the_whole_batch(client: httpx.Client, face_file: bytes) -> None:
    """It applies to all images: 400, not 207 with a failure for each."""
    files = [("image", face_file), ("image", face_file)]
    says(client.post("/predict/batch?min_face_size=11", files=files), 400, "INVALID_OPTION", "at least 12")


@pytest.mark.parametrize("where", ["path", "header"])
def test_only_envoy_limits_the_size_of_headers(client: httpx.Client, where: str) -> None:
    """Up to 16 KiB they are accepted, and the answer is JSON."""
    long = "x" * 12_000
    response = client.get(f"/{long}") if where == "path" else client.get("/nowhere", headers={"X-Long": long})
    says(response, 404, "NOT_FOUND")


def test_other_paths_and_methods_get_errors_of_the_same_form(client: httpx.Client) -> None:
    """404 and 405, which says what is allowed."""
    says(client.get("/nowhere"), 404, "NOT_FOUND")
    wrong = client.get("/predict")
    says(wrong, 405, "METHOD_NOT_ALLOWED")
    assert "POST" in wrong.headers["Allow"]


def test_what_envoy_refuses_has_the_same_form(stack: FrontDoor, client: httpx.Client) -> None:
    """Headers that are too large, and a body that does not arrive."""
    large = client.get("/healthz", headers={"X-Large": "x" * 20_000})
    assert (large.status_code, large.json()["code"]) == (431, "HEADERS_TOO_LARGE")
    host, _, port = stack.edge.partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as slow:
        slow.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nContent-Length: 9\r\n\r\nhalf")
        head, _, body = slow.makefile("rb").read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert json.loads(body)["code"] == "REQUEST_TIMEOUT"
