"""Reads a request into the contract's Image. A JSON body, a form and a bare image carry the same."""

import base64
import binascii
import io
import json
import re
from collections.abc import Iterable
from typing import Any

from flask import Request
from gunicorn.http.errors import ParseException

from protos import infer_pb2
from web.errors import RequestFailed
from web.options import JsonNumber, canonical, quoted, set_options

IGNORED = ("width", "height", "_meta_data")  # what the sender says about the image; the image's own header counts
RAW_TYPES = re.compile(r"image/.+|application/octet-stream|")
DATA_URL = re.compile(r"data:[^,]*;base64,", re.IGNORECASE)


class BoundedRequest(Request):
    """A Flask request whose body `read_body` has bounded and read into memory, so that no part goes to a disk."""

    def _get_file_stream(self, *_: Any, **__: Any) -> io.BytesIO:
        return io.BytesIO()


def read_body(request: Request, limit: int) -> None:
    """Read the body, at most `limit` bytes, with or without a Content-Length. Raises RequestFailed.

    Flask's own limit would cut a chunked body at the limit and continue with a part of the image.
    """
    try:
        body = request.stream.read(limit + 1)
    except (ParseException, OSError) as error:
        raise RequestFailed("MALFORMED_REQUEST", "the request's body is truncated or not chunked properly") from error
    coding = request.headers.get("Content-Encoding", "")
    if coding.lower() not in ("", "identity"):
        raise RequestFailed(
            "UNSUPPORTED_MEDIA_TYPE", f"the Content-Encoding {quoted(coding)} is not accepted; send the body as it is"
        )
    if len(body) > limit:
        raise RequestFailed("BODY_TOO_LARGE", f"the request's body is above {limit} bytes; send a smaller image")
    request.environ["wsgi.input"] = io.BytesIO(body)
    request.environ["CONTENT_LENGTH"] = str(len(body))
    request.__dict__.pop("stream", None)  # werkzeug caches the stream that is read by now


def read_image(request: Request, *, drawing: bool = False) -> infer_pb2.Image:
    """Read the one image of a request and its options; with `drawing`, also what to draw. Raises RequestFailed."""
    if request.mimetype == "application/json":
        data, fields = _from_json(request)
    elif request.mimetype == "multipart/form-data":
        files, fields = _from_form(request)
        if len(files) > 1:
            raise RequestFailed("MALFORMED_REQUEST", "there are several images; send one, or use /predict/batch")
        data = files[0]
    elif RAW_TYPES.fullmatch(request.mimetype):
        data, fields = request.get_data(), _query(request)
    else:
        raise RequestFailed(
            "UNSUPPORTED_MEDIA_TYPE",
            f"the Content-Type {request.mimetype} is not accepted; send application/json, multipart/form-data with a "
            "file field `image`, or the bare image as image/jpeg, image/png, image/webp or application/octet-stream",
        )
    image = infer_pb2.Image(raw_data=data, drawing=infer_pb2.Drawing() if drawing else None)
    set_options(image, fields)
    return image


def read_images(request: Request) -> list[infer_pb2.Image]:
    """Read the images of a form, at least one; the options apply to each of them. Raises RequestFailed."""
    files, fields = _from_form(request)
    images = [infer_pb2.Image(raw_data=data) for data in files]
    for image in images:
        set_options(image, fields)
    return images


def _from_form(request: Request) -> tuple[list[bytes], list[tuple[str, Any]]]:
    """Return the files of a form, at least one, and its other fields."""
    if request.mimetype != "multipart/form-data":
        raise RequestFailed("UNSUPPORTED_MEDIA_TYPE", "send multipart/form-data with one or more file fields `image`")
    if "image" in request.form:
        raise RequestFailed("MALFORMED_REQUEST", "the field `image` must be a file: curl -F image=@photo.jpg")
    if None in request.form or None in request.files:
        raise RequestFailed("MALFORMED_REQUEST", "a part of the form has no name; name the file `image`")
    for name in request.files:
        if name != "image":
            raise RequestFailed("MALFORMED_REQUEST", f"the file field {quoted(name)} is not known; name it `image`")
    files = request.files.getlist("image")
    if not files:
        raise RequestFailed("MISSING_IMAGE", "the form has no file field `image`: curl -F image=@photo.jpg")
    return [file.read() for file in files], [*_query(request), *request.form.items(multi=True)]


def _query(request: Request) -> list[tuple[str, Any]]:
    return list(request.args.items(multi=True))


class _Object(list[tuple[str, Any]]):
    """A JSON object with all its fields, repeated ones too; a null counts as absent, as in proto3 JSON."""

    def __init__(self, pairs: Iterable[tuple[str, Any]]) -> None:
        super().__init__((canonical(name), value) for name, value in pairs if value is not None)

    def all(self, *names: str) -> list[Any]:
        return [value for name, value in self if name in names]


def _constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _from_json(request: Request) -> tuple[bytes, list[tuple[str, Any]]]:
    """Read the proto3 JSON form of Image; `image` is accepted for `rawData`, and options beside it."""
    try:
        body = json.loads(
            request.get_data(),
            object_pairs_hook=_Object,
            parse_int=JsonNumber,
            parse_float=JsonNumber,
            parse_constant=_constant,
        )
    except (ValueError, RecursionError) as error:  # not JSON, not text, or nested too deeply
        raise RequestFailed("MALFORMED_REQUEST", f"the body is not JSON: {error}") from error
    if not isinstance(body, _Object):
        raise RequestFailed("MALFORMED_REQUEST", 'the JSON must be an object: {"image": "<base64>"}')
    data, options = body.all("image", "raw_data"), body.all("options")
    if not data:
        raise RequestFailed("MISSING_IMAGE", "the JSON has no `image` (or `rawData`) with the image in base64")
    if len(data) > 1:
        raise RequestFailed("MALFORMED_REQUEST", "there are several images; send one, as `image` or as `rawData`")
    if not all(isinstance(nested, _Object) for nested in options):
        raise RequestFailed("MALFORMED_REQUEST", "`options` must be an object")
    beside = [(name, value) for name, value in body if name not in ("image", "raw_data", "options", *IGNORED)]
    nested = [field for each in options for field in each]
    return _from_base64(data[0]), [*_query(request), *beside, *nested]


def _from_base64(text: Any) -> bytes:
    """Decode standard or URL-safe base64, padded or not, with or without line breaks, or a data URL that holds it."""
    if not isinstance(text, str) or isinstance(text, JsonNumber):
        raise RequestFailed("MALFORMED_REQUEST", "the image must be text in base64")
    if url := DATA_URL.match(text):
        text = text[url.end() :]
    digits = "".join(text.split()).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestFailed("MALFORMED_REQUEST", f"the image is not base64: {error}") from error
