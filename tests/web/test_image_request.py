"""What the gateway reads of a request, and what it says about one that it cannot read."""

import base64
import io
import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from protos import infer_pb2
from tests.web.conftest import Workers

FORMS = ("raw", "form", "json")
JSON = "application/json"


def post(http: FlaskClient, form: str, path: str = "/predict", **fields: Any) -> Any:
    """Send an image with fields in one of the three forms: beside a bare image they are the query."""
    if form == "raw":
        query = {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}
        return http.post(path, data=b"image", query_string=query, content_type="image/png")
    if form == "form":
        texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}
        return http.post(path, data={"image": (io.BytesIO(b"image"), "a.png"), **texts})
    return http.post(path, json={"image": base64.b64encode(b"image").decode(), **fields})


def says(response: Any, status: int, code: str, *words: str) -> None:
    """Check the documented form of an error."""
    assert response.status_code == status, response.text
    assert (sorted(response.json), response.json["code"]) == (["code", "message", "requestId"], code)
    assert response.json["requestId"] == response.headers["X-Request-ID"]
    for word in words:
        assert word in response.json["message"]


@pytest.mark.parametrize("form", FORMS)
def test_options_are_read_alike_in_every_form(http: FlaskClient, workers: Workers, form: str) -> None:
    """Numbers as text or not, with a point or an exponent; names in either case; words in upper or lower case."""
    options = infer_pb2.DetectOptions(min_face_size=40, min_confidence=0.5, max_faces=3)
    expected = infer_pb2.Image(raw_data=b"image", image_id="é", options=options)
    spellings: tuple[dict[str, Any], ...] = (
        {"min_face_size": 40, "min_confidence": 0.5, "max_faces": 3},
        {"min_face_size": "40", "min_confidence": ".5", "max_faces": "3"},
        {"minFaceSize": 40.0, "minConfidence": 5e-1, "maxFaces": "+3"},
        {"min_face_size": "4e1", "min_confidence": "0.50", "max_faces": "03."},
    )
    for spelled in spellings:
        assert post(http, form, image_id="é", **spelled).status_code == 200
        assert workers.servicer.images[-1] == expected, spelled
    workers.servicer.drawn = b"drawn"
    for words in ({"style": "blur", "labels": False}, {"style": "BLUR", "labels": "False"}):
        with post(http, form, "/annotate", **words) as response:
            assert response.status_code == 200
        drawing = workers.servicer.images[-1].drawing
        assert (drawing.style, drawing.labels) == (infer_pb2.Drawing.BLUR, False)


@pytest.mark.parametrize("form", FORMS)
def test_a_bad_option_is_named_with_what_is_allowed(http: FlaskClient, form: str) -> None:
    """In the same words in every form."""
    refused: tuple[tuple[str, Any, str], ...] = (
        ("min_face_size", "big", "must be a whole number, in the digits 0 to 9"),
        ("min_face_size", "2_0", "must be a whole number, in the digits 0 to 9"),
        ("min_face_size", "\uff12\uff10", "must be a whole number, in the digits 0 to 9"),
        ("min_face_size", " 20", "must be a whole number, in the digits 0 to 9"),
        ("min_face_size", "0x20", "must be a whole number, in the digits 0 to 9"),
        ("min_face_size", "", "must be a whole number, in the digits 0 to 9"),
        ("min_face_size", 20.5, "must be a whole number"),
        ("min_face_size", 2**40, "must be at most 2147483647"),
        ("min_face_size", 2**31, "must be at most 2147483647"),
        ("max_faces", 1e99, "must be at most 2147483647"),
        ("max_faces", -(2**40), "must be at least 0"),
        ("max_faces", "1_000", "must be a whole number, in the digits 0 to 9"),
        ("max_faces", True, "true"),
        ("min_confidence", "nan", "must be a number, in the digits 0 to 9"),
        ("min_confidence", "-Infinity", "must be a number, in the digits 0 to 9"),
        ("min_confidence", "\u0660.\u0665", "must be a number, in the digits 0 to 9"),
        ("min_confidence", "0,5", "must be a number, in the digits 0 to 9"),
        ("max_face", 1, "did you mean max_faces?"),
        ("threshold", 1, "there is no option 'threshold'; the options are min_face_size, "),
        ("x" * 100_000, 1, "xxx..."),
    )
    for option, value, words in refused:
        says(post(http, form, **{option: value}), 400, "INVALID_OPTION", words)
    says(post(http, form, "/annotate", style="pixel"), 400, "INVALID_OPTION", "must be boxes or blur")
    says(post(http, form, "/annotate", labels="1"), 400, "INVALID_OPTION", "must be true or false")
    says(post(http, form, "/annotate", image_id="7"), 400, "INVALID_OPTION", "no option 'image_id'")


def test_an_option_given_twice_is_refused(http: FlaskClient) -> None:
    """The service does not guess which one counts."""
    says(http.post("/predict?max_faces=1&max_faces=2", data=b"x"), 400, "INVALID_OPTION", "twice")
    body = {"image": (io.BytesIO(b"x"), "a"), "maxFaces": "1"}
    says(http.post("/predict?max_faces=1", data=body), 400, "INVALID_OPTION", "max_faces is given twice")


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (b"", "MALFORMED_REQUEST", "not JSON"),
        (b"{", "MALFORMED_REQUEST", "not JSON"),
        (b"\xff\xfe\xfa", "MALFORMED_REQUEST", "not JSON"),
        (b"[" * 100_000, "MALFORMED_REQUEST", "not JSON"),
        (b'{"image": "aGVsbG8=", "min_confidence": NaN}', "MALFORMED_REQUEST", "NaN is not a JSON value"),
        (b'{"image": "aGVsbG8=", "min_confidence": -Infinity}', "MALFORMED_REQUEST", "not JSON"),
        (b"[]", "MALFORMED_REQUEST", "object"),
        (b'"aGVsbG8="', "MALFORMED_REQUEST", "object"),
        (b"null", "MALFORMED_REQUEST", "object"),
        (b"7", "MALFORMED_REQUEST", "object"),
        (b"{}", "MISSING_IMAGE", "`image`"),
        (b'{"image": null}', "MISSING_IMAGE", "`image`"),
        (b'{"image": 7}', "MALFORMED_REQUEST", "text in base64"),
        (b'{"image": ["aGVsbG8="]}', "MALFORMED_REQUEST", "text in base64"),
        (b'{"image": "not base64!"}', "MALFORMED_REQUEST", "not base64"),
        (b'{"image": "aGVsbG8=", "image": "aGVsbG8="}', "MALFORMED_REQUEST", "several images"),
        (b'{"image": "aGVsbG8=", "rawData": "aGVsbG8="}', "MALFORMED_REQUEST", "several images"),
        (b'{"image": "aGVsbG8=", "options": 7}', "MALFORMED_REQUEST", "`options`"),
        (b'{"image": "aGVsbG8=", "imageId": 7}', "INVALID_OPTION", "image_id is 7; it must be text"),
        (b'{"image": "aGVsbG8=", "imageId": "\\ud800"}', "INVALID_OPTION", "must be text"),
        (b'{"image": "aGVsbG8=", "max_faces": ' + b"9" * 5000 + b"}", "INVALID_OPTION", "at most 2147483647"),
        (b'{"image": "aGVsbG8=", "max_faces": 1, "max_faces": 2}', "INVALID_OPTION", "twice"),
        (b'{"image": "aGVsbG8=", "max_faces": 1, "options": {"maxFaces": 1}}', "INVALID_OPTION", "twice"),
        (b'{"image": "aGVsbG8=", "options": {"maxFaces": 1}, "options": {"max_faces": 2}}', "INVALID_OPTION", "twice"),
        (b'{"image": "aGVsbG8=", "Options": {"maxFaces": 1}}', "INVALID_OPTION", "no option 'Options'"),
        (b'{"image": "aGVsbG8=", "max_faces": {"a": 1}}', "INVALID_OPTION", "is an object or array"),
        (b'{"image": "AAAA", "max_faces": ' + b'{"a":' * 800 + b"1" + b"}" * 801, "INVALID_OPTION", "or array"),
    ],
)
def test_bad_json_gets_400_and_a_reason(http: FlaskClient, body: bytes, code: str, words: str) -> None:
    """The message says what is wrong."""
    says(http.post("/predict", data=body, content_type=JSON), 400, code, words)


def test_bad_forms_get_400_and_a_reason(http: FlaskClient) -> None:
    """No file, several, one with another name, text in place of a file, an unnamed part, no form at all."""

    def send(data: Any, path: str = "/predict") -> Any:
        return http.post(path, data=data, content_type="multipart/form-data")

    def file() -> tuple[io.BytesIO, str]:
        return io.BytesIO(b"x"), "a.png"

    says(send({"picture": file()}), 400, "MALFORMED_REQUEST", "'picture'", "`image`")
    says(send({"image": [file(), file()]}), 400, "MALFORMED_REQUEST", "/predict/batch")
    says(send({"note": "x"}), 400, "MISSING_IMAGE", "curl -F")
    says(send(b"--x\r\n"), 400, "MISSING_IMAGE")
    says(send({"image": [file() for _ in range(33)]}, "/predict/batch"), 400, "MALFORMED_REQUEST", "at most 32")
    boundary = "multipart/form-data; boundary=x"
    for length in (1, 600_000):
        text = b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\n' + b"a" * length + b"\r\n--x--\r\n"
        says(http.post("/predict", data=text, content_type=boundary), 400, "MALFORMED_REQUEST", "must be a file")
    for parameters in (b"", b'; filename="a"'):
        unnamed = b"--x\r\nContent-Disposition: form-data" + parameters + b"\r\n\r\na\r\n--x--\r\n"
        says(http.post("/predict", data=unnamed, content_type=boundary), 400, "MALFORMED_REQUEST", "no name")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("APPLICATION/JSON; Charset=UTF-8", b'{"image": "DATA:image/png;BASE64,aW1hZ2U="}'),
        (
            "Multipart/Form-Data; Boundary=x",
            b'--x\r\ncontent-disposition: Form-Data; Name="image"; FileName="a"\r\n\r\nimage\r\n--x--\r\n',
        ),
        ("IMAGE/PNG", b"image"),
        ("Application/Octet-Stream", b"image"),
        ("", b"image"),
    ],
)
@pytest.mark.parametrize("coding", ["", "identity", "Identity", "IDENTITY"])
def test_headers_are_read_in_any_case(http: FlaskClient, workers: Workers, kind: str, body: bytes, coding: str) -> None:
    """Media types, their parameters, and the content coding that changes nothing."""
    response = http.post("/predict", data=body, content_type=kind, headers={"Content-Encoding": coding})
    assert response.status_code == 200, response.text
    assert workers.servicer.images[-1].raw_data == b"image"


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "video/mp4"])
def test_another_content_type_is_refused_with_those_accepted(http: FlaskClient, kind: str) -> None:
    """`curl --data-binary`, for one, sends the first of these."""
    says(
        http.post("/predict", data=b"x", content_type=kind), 415, "UNSUPPORTED_MEDIA_TYPE", kind, "multipart/form-data"
    )
    says(http.post("/predict/batch", data=b"x", content_type=kind), 415, "UNSUPPORTED_MEDIA_TYPE", "form-data")


@pytest.mark.parametrize("kind", ["image/png", JSON, "multipart/form-data; boundary=b"])
@pytest.mark.parametrize("coding", ["gzip", "identity, gzip"])
def test_a_compressed_body_is_refused(http: FlaskClient, kind: str, coding: str) -> None:
    """The message names the content coding."""
    response = http.post("/predict", data=b"x", content_type=kind, headers={"Content-Encoding": coding})
    says(response, 415, "UNSUPPORTED_MEDIA_TYPE", repr(coding), "send the body as it is")
