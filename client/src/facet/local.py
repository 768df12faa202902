"""The detector in this process, with no service; the only module that knows `inference`."""

from __future__ import annotations

import queue
import time
from typing import Self, Unpack

from facet.errors import error_for
from facet.health import health
from facet.messages import DetectOptions, DrawOptions, ImageSource, annotated, detection, drawn_request, request
from facet.results import Annotated, Detection, Health
from protos import infer_pb2

try:
    from inference.imaging.decode import ImageLimits, decode
    from inference.imaging.draw import draw
    from inference.mtcnn.detector import DetectOptions as Wish
    from inference.mtcnn.detector import Detector
    from inference.mtcnn.steps import Steps
    from inference.process.worker import load
    from inference.rpc.errors import describe
    from inference.rpc.messages import read_drawing, read_options, result
    from inference.rpc.servicer import DRAWN_PER_RECEIVED
    from inference.settings import Settings
except ModuleNotFoundError as error:
    raise ImportError(f"the detector needs {error.name}: pip install './client[local]' in a clone of facet") from error


class LocalClient:
    """Has the methods of `Client`, and the settings of a worker: FACET_ENGINE, FACET_WEIGHTS and the limits.

    Threads may share it: each simultaneous call has a detector of its own, which is loaded when it is first needed.
    """

    def __init__(self) -> None:
        self._settings = Settings()
        self._limits = ImageLimits(self._settings.max_body_bytes, self._settings.max_pixels, self._settings.max_side)
        self._defaults = Wish(min_face_size=self._settings.min_face_size)
        self._idle: queue.LifoQueue[Detector] = queue.LifoQueue()
        self._idle.put(load(self._settings))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Do nothing: there is no connection."""

    def detect(self, image: ImageSource, **options: Unpack[DetectOptions]) -> Detection:
        """Find the faces in a picture. Raises FacetError, or OSError for a picture that cannot be read."""
        return detection(self._answer(request(image, **options)))

    def annotate(self, image: ImageSource, **options: Unpack[DrawOptions]) -> Annotated:
        """Give the picture back with its faces drawn or blurred; the faces come along. Raises what `detect` does."""
        return annotated(self._answer(drawn_request(image, **options)))

    def health(self) -> Health:
        """Say that the detector is there; it was loaded when this client was made."""
        return health(time.monotonic())

    def _answer(self, image: infer_pb2.Image) -> infer_pb2.InferResults:
        detector = self._detector()
        try:
            return self._examine(image, detector)
        except Exception as error:
            _, code, message = describe(error)
            raise error_for(code, message) from error
        finally:
            self._idle.put(detector)

    def _detector(self) -> Detector:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            return load(self._settings)

    def _examine(self, image: infer_pb2.Image, detector: Detector) -> infer_pb2.InferResults:
        """Do what a worker does with a message."""
        options, drawing, steps = read_options(image.options, self._defaults), read_drawing(image), Steps()
        with steps("decode"):
            picture = decode(image.raw_data, self._limits)
        faces = detector.detect(picture.rgb, options, steps)
        drawn = b""
        if drawing:
            with steps("draw"):
                drawn = draw(picture, faces, drawing, DRAWN_PER_RECEIVED * self._limits.max_bytes)
        did = infer_pb2.MetaData(
            width=picture.width,
            height=picture.height,
            orientation=picture.orientation,
            model=detector.model,
            engine=detector.engine,
            milliseconds=steps.milliseconds,
        )
        return infer_pb2.InferResults(
            image_id=image.image_id, results=map(result, faces), _meta_data=did, picture=drawn
        )
