"""Translates between the messages of infer.proto and the types of the examination."""

from dataclasses import asdict

from inference.examination import Examination, InvalidOption, Options
from inference.imaging.draw import DrawOptions
from inference.mtcnn.detector import DetectOptions
from protos import infer_pb2


def read_options(image: infer_pb2.Image, default_min_face_size: int) -> Options:
    """Read the options of a request. A field that is not set gets its default. Raises InvalidOption."""
    sent = image.options
    return Options(
        DetectOptions(
            min_face_size=sent.min_face_size if sent.HasField("min_face_size") else default_min_face_size,
            min_confidence=sent.min_confidence,
            max_faces=sent.max_faces,
        ),
        _read_drawing(image.drawing) if image.HasField("drawing") else None,
    )


def _read_drawing(sent: infer_pb2.Drawing) -> DrawOptions:
    for name, kind in (("style", infer_pb2.Drawing.Style), ("format", infer_pb2.Drawing.Format)):
        if getattr(sent, name) not in kind.values():  # proto3 enumerations are open: any int32 arrives here
            raise InvalidOption(f"drawing.{name} is {getattr(sent, name)}; it must be {' or '.join(kind.keys())}")
    return DrawOptions(
        blur=sent.style == infer_pb2.Drawing.BLUR,
        png=sent.format == infer_pb2.Drawing.PNG,
        labels=sent.labels if sent.HasField("labels") else True,
    )


def write_results(examination: Examination, image_id: str, worker: str = "") -> infer_pb2.InferResults:
    """Make the answer to a request. `worker` is the id of the worker process."""
    return infer_pb2.InferResults(
        image_id=image_id,
        results=[infer_pb2.Result(**asdict(face)) for face in examination.faces],  # the fields have the same names
        _meta_data=infer_pb2.MetaData(
            width=examination.width,
            height=examination.height,
            orientation=examination.orientation,
            model=examination.model,
            engine=examination.engine,
            worker=worker,
            milliseconds={name: round(ms, 3) for name, ms in examination.milliseconds.items()},
        ),
        picture=examination.drawn,
    )
