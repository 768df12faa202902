"""What bad input gets, through the front door, and that the next good picture is answered exactly as before."""

from __future__ import annotations

import base64
import gzip
import io
import json
import socket
import struct
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.conftest import encode
from tests.pictures import chunk, pixel, png, png_header
from tests.stack.conftest import FrontDoor
from tests.stack.running import RunningStack
from tests.stack.test_predict import FORMS, post

LIMIT = 10 * 1024 * 1024


@pytest.fixture(autouse=True)
def _the_next_good_picture_is_answered_as_before(client: httpx.Client, face_file: bytes) -> Iterator[None]:
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


def bad_images() -> dict[str, tuple[bytes, int, str]]:
    """Files that cannot be examined, each with its status and code."""
    noise = np.random.default_rng(1).integers(0, 255, (300, 300, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    white = io.BytesIO()
    Image.new("1", (20000, 20000), 1).save(white, "PNG", optimize=True)
    assert len(white.getvalue()) < 100_000
    return {
        "an empty file": (b"", 400, "EMPTY_IMAGE"),
        "text called .jpg": (b"this is no picture\n", 422, "INVALID_IMAGE"),
        "a truncated JPEG": (encode(picture, "JPEG")[:20000], 422, "INVALID_IMAGE"),
        "a truncated PNG": (encode(picture)[:20000], 422, "INVALID_IMAGE"),
        "a truncated WebP": (encode(picture, "WEBP")[:9000], 422, "INVALID_IMAGE"),
        "a GIF": (encode(picture, "GIF"), 415, "UNSUPPORTED_FORMAT"),
        "a TIFF": (encode(picture, "TIFF"), 415, "UNSUPPORTED_FORMAT"),
        "a small file of 400 megapixels": (white.getvalue(), 413, "IMAGE_TOO_LARGE"),
        "65000 x 1": (png_header(65000, 1), 413, "IMAGE_TOO_LARGE"),
        "a header without a picture": (png_header(100, 100), 422, "INVALID_IMAGE"),
        "nulls": (bytes(1000), 422, "INVALID_IMAGE"),
        "a palette image without a palette": (
            png(chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 3, 0, 0, 0)), pixel),
            422,
            "INVALID_IMAGE",
        ),
    }


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", bad_images().items(), ids=lambda case: case[0])
def test_a_bad_image_has_its_own_answer(
    client: httpx.Client, form: str, case: tuple[str, tuple[bytes, int, str]]
) -> None:
    """The same in all three forms of input."""
    _, (data, status, code) = case
    says(post(client, form, data), status, code)


def odd_images(face: Image.Image) -> dict[str, bytes]:
    """Files that are odd, and show the face all the same."""
    grey = np.asarray(face.convert("L")).astype(np.uint16)
    alpha = face.convert("RGBA")
    alpha.putpixel((0, 0), (0, 0, 0, 0))
    other = Image.new("RGB", face.size)
    return {
        "16 bits": encode(Image.fromarray(grey * 257)),
        "CMYK": encode(face.convert("CMYK"), "JPEG", quality=95),
        "palette": encode(face.convert("P", palette=Image.Palette.ADAPTIVE, colors=256)),
        "alpha": encode(alpha),
        "grey": encode(face.convert("L")),
        "grey with alpha": encode(face.convert("LA")),
        "MPO": encode(face, "MPO", save_all=True, append_images=[other], quality=95),
        "APNG": encode(face, save_all=True, append_images=[other]),
        "animated WebP": encode(face, "WEBP", save_all=True, append_images=[other], lossless=True),
    }


@pytest.mark.parametrize("form", FORMS)
def test_an_odd_image_is_examined(client: httpx.Client, face: Image.Image, form: str) -> None:
    """Its one face is found, near where it is in the plain picture."""
    plain = post(client, form, encode(face)).json()["results"][0]["box"]["upLeft"]
    for name, data in odd_images(face).items():
        response = post(client, form, data)
        assert response.status_code == 200, (name, response.text)
        (found,) = response.json()["results"]
        assert found["box"]["upLeft"]["x"] == pytest.approx(plain["x"], abs=4), name
        assert found["box"]["upLeft"]["y"] == pytest.approx(plain["y"], abs=4), name


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_are_those_of_the_upright_picture(
    client: httpx.Client, face: Image.Image, orientation: int, form: str
) -> None:
    """Whatever way the camera was held, the answer is that of the upright picture, and says what was undone."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = face.transpose(undo[orientation]) if orientation in undo else face
    upright = post(client, form, encode(face)).json()
    turned = post(client, form, encode(stored, exif=exif)).json()
    assert turned["results"] == upright["results"]
    assert (turned["width"], turned["height"]) == face.size
    assert turned["metaData"]["orientation"] == orientation


@pytest.mark.parametrize(
    ("body", "code", "word"),
    [
        (b"", "MALFORMED_REQUEST", "not JSON"),
        (b"{", "MALFORMED_REQUEST", "not JSON"),
        (b"\xff\xfe\xfa", "MALFORMED_REQUEST", "not JSON"),
        (b"[" * 100_000, "MALFORMED_REQUEST", "not JSON"),
        (b"[]", "MALFORMED_REQUEST", "object"),
        (b'"aGVsbG8="', "MALFORMED_REQUEST", "object"),
        (b"null", "MALFORMED_REQUEST", "object"),
        (b"{}", "MISSING_IMAGE", "`image`"),
        (b'{"image": null}', "MISSING_IMAGE", "`image`"),
        (b'{"image": 7}', "MALFORMED_REQUEST", "base64"),
        (b'{"image": ["aGVsbG8="]}', "MALFORMED_REQUEST", "base64"),
        (b'{"image": "not base64!"}', "MALFORMED_REQUEST", "not base64"),
        (b'{"image": "aGVsbG8=", "rawData": "aGVsbG8="}', "MALFORMED_REQUEST", "two images"),
        (b'{"image": "aGVsbG8=", "options": 7}', "MALFORMED_REQUEST", "`options`"),
        (b'{"image": "aGVsbG8=", "min_face_sise": 7}', "INVALID_OPTION", "did you mean min_face_size"),
        (b'{"image": "aGVsbG8=", "imageId": 7}', "INVALID_OPTION", "must be text"),
        (b'{"image": "aGVsbG8=", "max_faces": true}', "INVALID_OPTION", "whole number"),
        (b'{"image": "aGVsbG8=", "max_faces": 1.5}', "INVALID_OPTION", "whole number"),
        (b'{"image": "aGVsbG8=", "max_faces": 1e99}', "INVALID_OPTION", "whole number"),
        (b'{"image": "aGVsbG8=", "max_faces": ' + b"9" * 400 + b"}", "INVALID_OPTION", "whole number"),
        (b'{"image": "aGVsbG8=", "image": "aGVsbG8="}', "MALFORMED_REQUEST", "two images"),
        (b'{"image": "aGVsbG8=", "max_faces": 1, "max_faces": 2}', "INVALID_OPTION", "twice"),
        (b'{"image": "aGVsbG8=", "options": {"maxFaces": 1}, "options": {"max_faces": 2}}', "INVALID_OPTION", "twice"),
        (b'{"image": "aGVsbG8=", "Options": {"maxFaces": 1}}', "INVALID_OPTION", "no option 'Options'"),
        (b'{"image": "aGVsbG8=", "' + b"x" * 100_000 + b'": 1}', "INVALID_OPTION", "xxx..."),
        (b'{"image": "aGVsbG8=", "max_faces": {"a": 1}}', "INVALID_OPTION", "whole number"),
        (b'{"image": "aGVsbG8=", "max_faces": 1, "options": {"maxFaces": 1}}', "INVALID_OPTION", "twice"),
    ],
)
def test_bad_json_is_told_what_is_wrong(client: httpx.Client, body: bytes, code: str, word: str) -> None:
    """400, and a sentence."""
    response = client.post("/predict", content=body, headers={"Content-Type": "application/json"})
    says(response, 400, code, word)


def test_bad_forms_are_told_what_is_wrong(client: httpx.Client, face_file: bytes) -> None:
    """No file, two files, a file by another name, text where a file belongs, a part without a name, no form at all."""
    one = ("a.png", face_file)
    other = client.post("/predict", files={"picture": one})
    says(other, 400, "MALFORMED_REQUEST", "'picture'", "`image`")
    says(client.post("/predict", files=[("image", one), ("image", one)]), 400, "MALFORMED_REQUEST", "/predict/batch")
    says(client.post("/predict", files={"note": (None, "x")}), 400, "MISSING_IMAGE", "curl -F")
    for text in ("x", "x" * 600_000):
        says(client.post("/predict", files={"image": (None, text)}), 400, "MALFORMED_REQUEST", "must be a file")
    broken = {"Content-Type": "multipart/form-data"}
    says(client.post("/predict", content=b"--x\r\n", headers=broken), 400, "MISSING_IMAGE")
    says(
        client.post("/predict/batch", content=b"x", headers={"Content-Type": "image/png"}),
        415,
        "UNSUPPORTED_MEDIA_TYPE",
    )
    nameless = b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--\r\n"
    named = {"Content-Type": "multipart/form-data; boundary=x"}
    says(client.post("/predict", content=nameless, headers=named), 400, "MALFORMED_REQUEST", "no name")
    many = [("image", (f"{index}.png", b"x")) for index in range(33)]
    says(client.post("/predict/batch", files=many), 400, "MALFORMED_REQUEST", "at most 32")


def test_another_content_type_is_told_the_accepted_ones(client: httpx.Client, face_file: bytes) -> None:
    """What curl --data-binary sends of its own accord, for one."""
    for kind in ("application/x-www-form-urlencoded", "text/plain", "video/mp4"):
        response = client.post("/predict", content=face_file, headers={"Content-Type": kind})
        says(response, 415, "UNSUPPORTED_MEDIA_TYPE", kind, "multipart/form-data")


@pytest.mark.parametrize("kind", ["image/png", "application/json", "multipart/form-data; boundary=b"])
def test_a_packed_body_is_refused_for_that(client: httpx.Client, face_file: bytes, kind: str) -> None:
    """And not for being no picture: nothing is unpacked here."""
    headers = {"Content-Type": kind, "Content-Encoding": "gzip"}
    response = client.post("/predict", content=gzip.compress(face_file), headers=headers)
    says(response, 415, "UNSUPPORTED_MEDIA_TYPE", "'gzip'", "unpacked")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("option", "value", "word"),
    [
        ("min_face_size", 11, "at least 12"),
        ("min_face_size", "big", "whole number"),
        ("min_face_size", 20.5, "whole number"),
        ("min_confidence", 1.01, "between 0 and 1"),
        ("min_confidence", -0.1, "between 0 and 1"),
        ("min_confidence", "nan", "between 0 and 1"),
        ("max_faces", -1, "0 for all"),
        ("max_faces", 10**10, "whole number"),
        ("max_face", 1, "did you mean max_faces"),
        ("threshold", 1, "there is no option 'threshold'"),
    ],
)
def test_a_bad_option_is_named(
    client: httpx.Client, face_file: bytes, form: str, option: str, value: Any, word: str
) -> None:
    """Out of range, of another type, or misspelt: 400 in every form of input."""
    says(post(client, form, face_file, **{option: value}), 400, "INVALID_OPTION", word)


def test_an_option_given_twice_is_refused(client: httpx.Client, face_file: bytes) -> None:
    """Which one counts is not for us to guess."""
    headers = {"Content-Type": "image/png"}
    says(client.post("/predict?max_faces=1&max_faces=2", content=face_file, headers=headers), 400, "INVALID_OPTION")
    form = client.post("/predict?max_faces=1", files={"image": ("a", face_file)}, data={"maxFaces": "1"})
    says(form, 400, "INVALID_OPTION", "twice")


def body_of(form: str, size: int) -> tuple[bytes, str]:
    """A body of exactly so many bytes that is well-formed up to the picture, which is junk; and its type."""
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
@pytest.mark.parametrize("form", FORMS)
def test_the_body_limit_is_exact(stack: FrontDoor, client: httpx.Client, form: str, *, chunked: bool) -> None:
    """Limit - 1 and limit are looked at (and are no picture), limit + 1 is refused."""
    check_the_limit(stack.url, client, form, chunked=chunked)


@pytest.mark.parametrize("chunked", [False, True], ids=["with Content-Length", "chunked"])
@pytest.mark.parametrize("form", FORMS)
def test_the_gateway_checks_the_limit_for_itself(
    processes: RunningStack, client: httpx.Client, form: str, *, chunked: bool
) -> None:
    """Past Envoy."""
    check_the_limit(processes.gateway_url, client, form, chunked=chunked)


def check_the_limit(url: str, client: httpx.Client, form: str, *, chunked: bool) -> None:
    for size in (LIMIT - 1, LIMIT, LIMIT + 1):
        body, kind = body_of(form, size)
        assert len(body) == size
        content = iter([body[:1000], body[1000:]]) if chunked else body
        response = client.post(f"{url}/predict", content=content, headers={"Content-Type": kind})
        if size > LIMIT:
            says(response, 413, "BODY_TOO_LARGE", "10485760 bytes")
        else:
            says(response, 422, "INVALID_IMAGE")


@pytest.mark.parametrize("wish", ["0", "0.0009", "-1", "soon", "nan", ""])
def test_a_senseless_timeout_is_refused(client: httpx.Client, face_file: bytes, wish: str) -> None:
    """X-Request-Timeout is a number of seconds, a thousandth at least."""
    headers = {"Content-Type": "image/png", "X-Request-Timeout": wish}
    says(client.post("/predict", content=face_file, headers=headers), 400, "INVALID_OPTION", "X-Request-Timeout")


def test_an_option_out_of_range_is_the_whole_batch_s_fault(client: httpx.Client, face_file: bytes) -> None:
    """It holds for all images: 400, and no 207 with as many failures."""
    files = [("image", face_file), ("image", face_file)]
    says(client.post("/predict/batch?min_face_size=11", files=files), 400, "INVALID_OPTION", "at least 12")


@pytest.mark.parametrize("where", ["path", "header"])
def test_only_envoy_measures_the_headers(client: httpx.Client, where: str) -> None:
    """Up to 16 KiB they are taken, and what comes of them is JSON."""
    long = "x" * 12_000
    response = client.get(f"/{long}") if where == "path" else client.get("/nowhere", headers={"X-Long": long})
    says(response, 404, "NOT_FOUND")


def test_other_paths_and_methods_answer_in_the_same_form(client: httpx.Client) -> None:
    """404 and 405 are JSON, too, and 405 says what is allowed."""
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


def test_a_senseless_request_id_is_replaced(client: httpx.Client, face_file: bytes) -> None:
    """What cannot stand in a log line, a header and gRPC metadata at once does not get that far."""
    for given in (b"x" * 129, b"two words", b"caf\xe9"):
        headers = {b"Content-Type": b"image/png", b"X-Request-ID": given}
        response = client.post("/predict", content=face_file, headers=headers)
        assert response.status_code == 200, response.text
        assert len(response.headers["X-Request-ID"]) == 36
