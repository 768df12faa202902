"""The detector in this process, without a service; the only module that imports `inference`."""

import queue
import time
from typing import Unpack

from facet.closing import Closing
from facet.errors import LocalSetupError, error_for
from facet.messages import DetectOptions, DrawOptions, ImageSource, annotated, detection, drawn_request, request
from facet.results import Annotated, Detection, Health
from protos import infer_pb2

try:
    from inference.examination import examine
    from inference.imaging.decode import ImageLimits
    from inference.mtcnn.detector import Detector
    from inference.mtcnn.engines import EngineNotInstalled, UnknownEngine
    from inference.mtcnn.kernels import KernelsMissing
    from inference.mtcnn.networks import BadWeights
    from inference.mtcnn.steps import Steps
    from inference.process.worker import load
    from inference.rpc.errors import describe
    from inference.rpc.messages import read_options, write_results
    from inference.settings import Settings
    from pydantic import ValidationError
except ModuleNotFoundError as error:
    raise ImportError(f"the detector needs {error.name}: pip install './client[local]' in a clone of facet") from error


class LocalClient(Closing):
    """Has the methods of `Client` and the settings of a worker: FACET_ENGINE, FACET_WEIGHTS and the limits.

    Threads may share it. Each concurrent call uses its own detector, loaded when it is first needed. Raises
    LocalSetupError.
    """

    def __init__(self) -> None:
        self._idle: queue.LifoQueue[Detector] = queue.LifoQueue()
        try:
            self._settings = Settings()
            self._idle.put(load(self._settings))
        except ValidationError as error:
            raise LocalSetupError(Settings.format_errors(error)) from error
        except (UnknownEngine, EngineNotInstalled, BadWeights, KernelsMissing) as error:
            raise LocalSetupError(str(error)) from error
        self._limits = ImageLimits(self._settings.max_body_bytes, self._settings.max_pixels, self._settings.max_side)

    def detect(self, image: ImageSource, **options: Unpack[DetectOptions]) -> Detection:
        """Find the faces in an image. Raises FacetError, or OSError if the image's file cannot be read."""
        return detection(self._answer(request(image, **options)))

    def annotate(self, image: ImageSource, **options: Unpack[DrawOptions]) -> Annotated:
        """Return the image with its faces drawn or blurred, and the faces. Raises the errors of `detect`."""
        return annotated(self._answer(drawn_request(image, **options)))

    def health(self) -> Health:
        """Report that the detector is ready; it was loaded when this client was made."""
        return Health.since(time.monotonic())

    def _answer(self, image: infer_pb2.Image) -> infer_pb2.InferResults:
        try:
            detector = self._idle.get_nowait()
        except queue.Empty:
            detector = load(self._settings)
        try:
            options = read_options(image, self._settings.min_face_size)
            return write_results(examine(image.raw_data, options, detector, self._limits, Steps()), image.image_id)
        except Exception as error:
            _, code, message = describe(error)
            raise error_for(code, message) from error
        finally:
            self._idle.put(detector)
