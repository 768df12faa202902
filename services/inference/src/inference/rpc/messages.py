"""Between the contract's messages and the detector's own types."""

from __future__ import annotations

from inference.imaging.draw import DrawOptions
from inference.mtcnn.detector import SMALLEST_FACE, DetectOptions, Face, Point
from inference.rpc.errors import InvalidOption
from protos import infer_pb2


def read_options(wish: infer_pb2.DetectOptions, defaults: DetectOptions) -> DetectOptions:
    """Check the options of a request; what it leaves open is the server's default. Raises InvalidOption."""
    options = DetectOptions(
        min_face_size=wish.min_face_size if wish.HasField("min_face_size") else defaults.min_face_size,
        min_confidence=wish.min_confidence if wish.HasField("min_confidence") else defaults.min_confidence,
        max_faces=wish.max_faces if wish.HasField("max_faces") else defaults.max_faces,
    )
    if options.min_face_size < SMALLEST_FACE:
        raise InvalidOption(f"min_face_size is {options.min_face_size}; it must be at least {SMALLEST_FACE} pixels")
    if not 0 <= options.min_confidence <= 1:
        raise InvalidOption(f"min_confidence is {options.min_confidence:g}; it must be between 0 and 1")
    if options.max_faces < 0:
        raise InvalidOption(f"max_faces is {options.max_faces}; it must be 1 or more, or 0 for all")
    return options


def read_drawing(image: infer_pb2.Image) -> DrawOptions | None:
    """Check what is to be drawn on an image, None if nothing is. Raises InvalidOption."""
    if not image.HasField("drawing"):
        return None
    wish = image.drawing
    for name, kind in (("style", infer_pb2.Drawing.Style), ("format", infer_pb2.Drawing.Format)):
        if getattr(wish, name) not in kind.values():  # an enumeration may hold any number
            raise InvalidOption(f"drawing.{name} is {getattr(wish, name)}; it must be {' or '.join(kind.keys())}")
    blur = wish.style == infer_pb2.Drawing.BLUR
    if blur and (image.options.max_faces or image.options.min_confidence):
        raise InvalidOption("a blurred picture with max_faces or min_confidence would show faces; leave them out")
    return DrawOptions(
        blur=blur,
        png=wish.format == infer_pb2.Drawing.PNG,
        labels=wish.labels if wish.HasField("labels") else True,
    )


def result(face: Face) -> infer_pb2.Result:
    """Make the message for a face."""
    box, marks = face.box, face.landmarks
    return infer_pb2.Result(
        box=infer_pb2.Box(up_left=_point(box.up_left), lower_right=_point(box.lower_right)),
        landmarks=infer_pb2.Landmarks(
            left_eye=_point(marks.left_eye),
            right_eye=_point(marks.right_eye),
            nose=_point(marks.nose),
            mouth_left=_point(marks.mouth_left),
            mouth_right=_point(marks.mouth_right),
        ),
        confidence=face.confidence,
    )


def _point(point: Point) -> infer_pb2.Point:
    return infer_pb2.Point(x=point.x, y=point.y)
