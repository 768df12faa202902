"""Converts between the clients' arguments and results and the messages of the contract, for all clients."""

import os
from numbers import Real
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias, TypedDict, Unpack

from google.protobuf.json_format import ParseDict, ParseError

from facet.errors import FacetError, InvalidOption, error_for
from facet.results import LANDMARKS, Annotated, Box, Detection, Face, Landmarks, Point
from protos import infer_pb2

INT32_MAX = 2**31 - 1
WHOLE_NUMBERS = ("min_face_size", "max_faces")  # int32 in infer.proto

ImageSource: TypeAlias = bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryIO
"""An image: the bytes of its file, its path, or a file opened for reading bytes."""


def read_image(image: ImageSource) -> bytes:
    """Return the bytes of an image. Raises OSError."""
    if isinstance(image, (bytes, bytearray, memoryview)):
        return bytes(image)
    if isinstance(image, (str, os.PathLike)):
        return Path(image).read_bytes()
    return image.read()


class Options(TypedDict, total=False):
    """The options of every examination. The service chooses the value of an option that is missing or None."""

    min_face_size: int | None
    """The smallest face to look for, in pixels, at least 12; larger is faster."""
    min_confidence: float | None
    """Omits faces with a lower confidence; 0 to 1."""
    max_faces: int | None
    """Keeps at most this many faces, the largest first; 0 keeps all."""


class DetectOptions(Options, total=False):
    """The options of a detection alone."""

    image_id: str
    """Any text; it is returned in the answer."""


class DrawOptions(Options, total=False):
    """The options of a drawn image."""

    style: Literal["boxes", "blur"]
    """Boxes and landmarks (the default), or blurred faces."""
    labels: bool
    """Whether to write the confidence beside each box; the default is true."""
    format: Literal["jpeg", "png"]
    """The format of the drawn image; the default is jpeg."""


def request(image: ImageSource, **options: Unpack[DetectOptions]) -> infer_pb2.Image:
    """Return the message for an image to be examined. Raises OSError or InvalidOption."""
    image_id = options.pop("image_id", "")
    return infer_pb2.Image(raw_data=read_image(image), options=_detect_options(options), image_id=image_id)


def drawn_request(image: ImageSource, **options: Unpack[DrawOptions]) -> infer_pb2.Image:
    """Return the message for an image to be drawn. Raises OSError or InvalidOption."""
    drawing = infer_pb2.Drawing(
        style=_value(infer_pb2.Drawing.Style, "style", options.pop("style", "boxes")),
        format=_value(infer_pb2.Drawing.Format, "format", options.pop("format", "jpeg")),
        labels=options.pop("labels", True),
    )
    return infer_pb2.Image(raw_data=read_image(image), options=_detect_options(options), drawing=drawing)


def _detect_options(options: Any) -> infer_pb2.DetectOptions:
    whole = {name: _whole_number(name, options[name]) for name in WHOLE_NUMBERS if options.get(name) is not None}
    try:
        return infer_pb2.DetectOptions(**(options | whole))
    except (TypeError, ValueError) as error:  # an unknown name, or text for a number
        raise InvalidOption("INVALID_OPTION", f"an option is wrong: {error}") from error


def _whole_number(name: str, value: Any) -> int:
    """Read a whole number as the HTTP gateway does: also from a float such as 40.0."""
    whole = isinstance(value, Real) and not isinstance(value, bool) and value % 1 == 0  # not NaN, nor infinity
    if not whole:
        raise InvalidOption("INVALID_OPTION", f"{name} is {value!r}; it must be a whole number")
    if value > INT32_MAX:
        raise InvalidOption("INVALID_OPTION", f"{name} is {value!r}; it must be at most {INT32_MAX}")
    if value < -INT32_MAX:
        raise InvalidOption("INVALID_OPTION", f"{name} is {value!r}; it must be at least 0")
    return int(value)


def _value(kind: Any, name: str, word: str) -> Any:
    try:
        return kind.Value(word.upper())
    except ValueError:
        words = " or ".join(kind.keys()).lower()
        raise InvalidOption("INVALID_OPTION", f"{name} is {word!r}; it must be {words}") from None


def detection(answer: infer_pb2.InferResults) -> Detection:
    """Read an answer. The coordinates are float32 on the wire, and the same numbers as float here."""
    did = answer._meta_data  # noqa: SLF001 - the contract's name
    return Detection(
        faces=tuple(map(_face, answer.results)),
        width=did.width,
        height=did.height,
        orientation=did.orientation,
        image_id=answer.image_id,
        model=did.model,
        engine=did.engine,
        worker=did.worker,
        milliseconds=dict(did.milliseconds),
    )


def annotated(answer: infer_pb2.InferResults) -> Annotated:
    """Read an answer with a drawn image. Raises ServiceUnavailable when there is none."""
    if not answer.picture:
        raise error_for("NOT_READY", "an older worker answered, which cannot draw; try again in a second")
    return Annotated(answer.picture, len(answer.results), detection(answer))


def detection_from_json(answer: Any) -> Detection:
    """Read the JSON form of an answer. It passes through the message, which gives the same numbers as gRPC does.

    Raises FacetError when it is not an answer of facet.
    """
    if not isinstance(answer, dict) or "results" not in answer:  # it would be read as an answer without faces
        raise FacetError("UNEXPECTED_ANSWER", "this is not an answer of facet: it has no results")
    try:
        return detection(ParseDict(answer, infer_pb2.InferResults(), ignore_unknown_fields=True))
    except ParseError as error:
        raise FacetError("UNEXPECTED_ANSWER", f"this is not an answer of facet: {error}") from error


def _face(result: infer_pb2.Result) -> Face:
    return Face(
        box=Box(_point(result.box.up_left), _point(result.box.lower_right)),
        landmarks=Landmarks(**{name: _point(getattr(result.landmarks, name)) for name in LANDMARKS}),
        confidence=result.confidence,
    )


def _point(point: infer_pb2.Point) -> Point:
    return Point(point.x, point.y)
