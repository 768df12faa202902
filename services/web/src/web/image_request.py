"""Reads a request into the contract's Image: JSON, a form, or the bare image; all three say the same."""

from __future__ import annotations

import base64
import binascii
import difflib
import io
import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from flask import Request
from gunicorn.http.errors import ParseException

from protos import infer_pb2
from web.errors import RequestFailed

OPTIONS: dict[str, type[int | float]] = {"min_face_size": int, "min_confidence": float, "max_faces": int}
# What /annotate draws: the words for it, and what they mean.
DRAWING: dict[str, dict[str, int]] = {
    "style": {"boxes": infer_pb2.Drawing.BOXES, "blur": infer_pb2.Drawing.BLUR},
    "labels": {"true": True, "false": False},
}
IGNORED = ("width", "height", "_meta_data")  # a sender's view of the picture: its header counts
RAW_TYPES = re.compile(r"image/.+|application/octet-stream|")
ECHOED = 60  # characters of an unknown name or value that go into a message
DATA_URL = re.compile(r"data:[^,]*;base64,")


class BoundedRequest(Request):
    """A Flask request whose body has been measured and is in memory (see `read_body`), so no part goes to a disk."""

    def _get_file_stream(self, *_: Any, **__: Any) -> io.BytesIO:
        return io.BytesIO()


def read_body(request: Request, limit: int) -> None:
    """Take the body in, at most `limit` bytes, with or without a Content-Length. Raises RequestFailed.

    Flask's own limit would cut a chunked body at the limit and go on with a part of the picture.
    """
    try:
        body = request.stream.read(limit + 1)
    except (ParseException, OSError) as error:  # chunks that make no sense, or fewer than there should be
        raise RequestFailed("MALFORMED_REQUEST", "the request's body is cut short or not in proper chunks") from error
    if (coding := request.headers.get("Content-Encoding", "identity")) != "identity":
        raise RequestFailed("UNSUPPORTED_MEDIA_TYPE", f"Content-Encoding is {_short(coding)!r}; send the body unpacked")
    if len(body) > limit:
        raise RequestFailed("BODY_TOO_LARGE", f"the request's body is above {limit} bytes; send a smaller image")
    request.environ["wsgi.input"] = io.BytesIO(body)
    request.environ["CONTENT_LENGTH"] = str(len(body))
    request.__dict__.pop("stream", None)  # werkzeug keeps the one it has read


def read_image(request: Request, *, drawing: bool = False) -> infer_pb2.Image:
    """Read the one image of a request and its options; with `drawing`, also what to draw. Raises RequestFailed."""
    if request.mimetype == "application/json":
        data, fields = _from_json(request)
    elif request.mimetype == "multipart/form-data":
        files, fields = _from_form(request)
        if len(files) > 1:
            raise RequestFailed("MALFORMED_REQUEST", "there are two images or more; send one, or use /predict/batch")
        data = files[0]
    elif RAW_TYPES.fullmatch(request.mimetype):
        data, fields = request.get_data(), _query(request)
    else:
        raise _not_accepted(request)
    return _with_fields(infer_pb2.Image(raw_data=data, drawing=infer_pb2.Drawing() if drawing else None), fields)


def _not_accepted(request: Request) -> RequestFailed:
    return RequestFailed(
        "UNSUPPORTED_MEDIA_TYPE",
        f"the Content-Type {request.mimetype} is not accepted; send application/json, multipart/form-data with a file "
        "field `image`, or the bare image as image/jpeg, image/png, image/webp or application/octet-stream",
    )


def read_images(request: Request) -> list[infer_pb2.Image]:
    """Read the images of a form, at least one; the options hold for all of them. Raises RequestFailed."""
    files, fields = _from_form(request)
    return [_with_fields(infer_pb2.Image(raw_data=data), fields) for data in files]


def _from_form(request: Request) -> tuple[list[bytes], list[tuple[str, Any]]]:
    """Give the files of a form, at least one, and the fields beside them."""
    if request.mimetype != "multipart/form-data":
        raise RequestFailed("UNSUPPORTED_MEDIA_TYPE", "send multipart/form-data with one or more file fields `image`")
    if "image" in request.form:
        raise RequestFailed("MALFORMED_REQUEST", "the field `image` must be a file: curl -F image=@photo.jpg")
    if None in request.form:
        raise RequestFailed("MALFORMED_REQUEST", "a part of the form has no name; call the file `image`")
    for name in request.files:
        if name != "image":
            raise RequestFailed("MALFORMED_REQUEST", f"the file field {name!r} is not known; call it `image`")
    files = request.files.getlist("image")
    if not files:
        raise RequestFailed("MISSING_IMAGE", "the form has no file field `image`: curl -F image=@photo.jpg")
    return [file.read() for file in files], [*_query(request), *request.form.items(multi=True)]


def _query(request: Request) -> list[tuple[str, Any]]:
    return list(request.args.items(multi=True))


class _Object(list[tuple[str, Any]]):
    """A JSON object with all its fields, also those that come twice; a null is absent, as in proto3 JSON."""

    def __init__(self, pairs: Iterable[tuple[str, Any]]) -> None:
        super().__init__((_canonical(name), value) for name, value in pairs if value is not None)

    def all(self, *names: str) -> list[Any]:
        """Give the values of the fields of these names."""
        return [value for name, value in self if name in names]


def _from_json(request: Request) -> tuple[bytes, list[tuple[str, Any]]]:
    """Read the proto3 JSON form of Image; `image` is accepted for `rawData`, and the options beside it."""
    try:
        body = json.loads(request.get_data(), object_pairs_hook=_Object)
    except (ValueError, RecursionError) as error:  # not JSON, not text, or nested too deep
        raise RequestFailed("MALFORMED_REQUEST", f"the body is not JSON: {error}") from error
    if not isinstance(body, _Object):
        raise RequestFailed("MALFORMED_REQUEST", 'the JSON must be an object: {"image": "<base64>"}')
    data, options = body.all("image", "raw_data"), body.all("options")
    if not data:
        raise RequestFailed("MISSING_IMAGE", "the JSON has no `image` (or `rawData`) with the image in base64")
    if len(data) > 1:
        raise RequestFailed("MALFORMED_REQUEST", "there are two images; send one, as `image` or as `rawData`")
    if not all(isinstance(nested, _Object) for nested in options):
        raise RequestFailed("MALFORMED_REQUEST", "`options` must be an object")
    beside = [(name, value) for name, value in body if name not in ("image", "raw_data", "options", *IGNORED)]
    nested = [field for each in options for field in each]
    return _from_base64(data[0]), [*_query(request), *beside, *nested]


def _from_base64(text: Any) -> bytes:
    """Decode standard or URL-safe base64, padded or not, with or without line ends, or a data URL holding it."""
    if not isinstance(text, str):
        raise RequestFailed("MALFORMED_REQUEST", "the image must be text in base64")
    if url := DATA_URL.match(text):
        text = text[url.end() :]
    digits = "".join(text.split()).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestFailed("MALFORMED_REQUEST", f"the image is not base64: {error}") from error


def _with_fields(image: infer_pb2.Image, fields: Iterable[tuple[str, Any]]) -> infer_pb2.Image:
    """Set the image's id and options, and what to draw if anything is. Ranges are the worker's business.

    Raises RequestFailed.
    """
    seen = set()
    known = [*OPTIONS, *(DRAWING if image.HasField("drawing") else ["image_id"])]  # a drawn picture says no id
    for name, value in ((_canonical(name), value) for name, value in fields):
        if name in seen:
            raise RequestFailed("INVALID_OPTION", f"{_short(name)} is given twice; give it once")
        seen.add(name)
        try:
            if name not in known:
                raise RequestFailed("INVALID_OPTION", f"there is no option {_short(name)!r}{_guess(name, known)}")
            if name == "image_id":
                image.image_id = _text(value)
            elif name in OPTIONS:
                setattr(image.options, name, NUMBERS[OPTIONS[name]](value))
            else:
                setattr(image.drawing, name, DRAWING[name][_word(value)])
        except (TypeError, ValueError, OverflowError, KeyError) as error:
            raise RequestFailed("INVALID_OPTION", f"{name} is {_short(value)!r}; it must be {_kind(name)}") from error
    return image


def _kind(name: str) -> str:
    if name in DRAWING:
        return " or ".join(DRAWING[name])
    return "text" if name == "image_id" else "a whole number" if OPTIONS[name] is int else "a number"


def _guess(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1) if len(name) <= ECHOED else []
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}"


def _short(value: Any) -> Any:
    """Cut what is sent back to its sender to a readable length."""
    if isinstance(value, (list, dict)):  # perhaps nested deeper than can be printed
        return type(value).__name__
    text = str(value)
    return value if len(text) <= ECHOED else text[:ECHOED] + "..."


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    value.encode()  # a lone surrogate is no text
    return value


def _word(value: Any) -> str:
    if not isinstance(value, (str, bool)):
        raise TypeError(value)
    return str(value).lower()


def _integer(value: Any) -> int:
    number = _number(value)
    if not number.is_integer():
        raise ValueError(value)
    return int(number)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TypeError(value)
    return float(value)


NUMBERS: dict[type[int | float], Callable[[Any], float]] = {int: _integer, float: _number}


def _canonical(name: str) -> str:
    """Give a field's name in the .proto file for either of its spellings, rawData and raw_data."""
    return SPELLINGS.get(name, name)


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(map(str.capitalize, tail))


# Both spellings of protobuf's JSON form are right, for every field: `raw_data` and `rawData`.
FIELDS = ("raw_data", "image_id", "_meta_data", *OPTIONS)
SPELLINGS = {_camel(name): name for name in FIELDS} | {"metaData": "_meta_data"}
