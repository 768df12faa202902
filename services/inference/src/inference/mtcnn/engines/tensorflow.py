"""The engine `tensorflow`: the unchanged mtcnn package, the reference for the other engines.

The package accepts stages as arguments. Each of its three stages gets a wrapper that runs it as a step and keeps a
failure from passing as "no faces".
"""

import math
from typing import Any

import numpy as np
import tensorflow as tf
from mtcnn import MTCNN
from mtcnn.stages import StageONet, StagePNet, StageRNet
from numpy.typing import NDArray

from inference.mtcnn.boxes import make_face
from inference.mtcnn.detector import RGB, SMALLEST_FACE, CascadeSettings, Face
from inference.mtcnn.steps import Steps


class NoCandidates(Exception):
    """A network left no candidates, so there is no face."""


class RuntimeFailure(Exception):
    """TensorFlow rejected an operation."""


class _Stage:
    """A stage of the package, run as a step."""

    def __init__(self, name: str, stage: Any) -> None:
        self._name = name
        self._stage = stage

    def __call__(self, *, steps: Steps, bboxes_batch: NDArray[Any] | None, **arguments: Any) -> NDArray[Any]:
        # The package answers "no faces" to every InvalidArgumentError of TensorFlow. An empty list of candidates is one
        # cause; caught here, it cannot be confused with a real failure.
        if bboxes_batch is not None and len(bboxes_batch) == 0:
            raise NoCandidates(self._name)
        with steps(self._name):
            try:
                boxes: NDArray[Any] = self._stage(bboxes_batch=bboxes_batch, **self._prepare(arguments))
            except tf.errors.InvalidArgumentError as error:
                raise RuntimeFailure(self._name) from error
        return boxes

    def _prepare(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return arguments


class _PNetStage(_Stage):
    """The package's first stage, without the pyramid levels that are smaller than P-Net's input.

    The package derives the number of levels from the image's size alone. With a min_face_size above 20 the last levels
    can have less than 12 pixels per side; P-Net fails on them, and the package answers "no faces" for the whole image.
    """

    def _prepare(self, arguments: dict[str, Any]) -> dict[str, Any]:
        factor = arguments["scale_factor"]
        side = min(int(length) for length in arguments["images_oshapes"][0][:2])
        planned = max(0, round(-(math.log(side / SMALLEST_FACE) / math.log(factor) + 1)))
        scales = SMALLEST_FACE / arguments["min_face_size"] * factor ** np.arange(planned)
        usable = int(np.count_nonzero((side * scales).astype(int) >= SMALLEST_FACE))
        if usable == 0:
            raise NoCandidates(self._name)
        if usable == planned:
            return arguments
        # The package uses the shape only to count the levels, so a smaller shape drops the unusable ones.
        side = SMALLEST_FACE * factor ** -(usable + 1)
        return arguments | {"images_oshapes": np.array([[side, side, 3.0]])}


class TensorFlowEngine:
    """`mtcnn.MTCNN` on one CPU thread."""

    name = "tensorflow"
    device = "CPU"

    def __init__(self, settings: CascadeSettings) -> None:
        # One thread, because the workers share the CPUs.
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        stages = [_PNetStage("pnet", StagePNet()), _Stage("rnet", StageRNet()), _Stage("onet", StageONet())]
        self._mtcnn = MTCNN(stages=stages)
        self._settings = settings

    def find_faces(self, pixels: RGB, min_face_size: int, steps: Steps) -> list[Face]:
        """See `detector.Engine`. The package holds the whole pyramid in memory: 2.4 GB for 12 megapixels."""
        try:
            rows = self._mtcnn.detect_faces(
                pixels,
                box_format="xyxy",
                output_type="numpy",
                min_face_size=min_face_size,
                scale_factor=self._settings.scale_factor,
                threshold_pnet=self._settings.pnet_threshold,
                threshold_rnet=self._settings.rnet_threshold,
                threshold_onet=self._settings.onet_threshold,
                steps=steps,
            )
        except NoCandidates:
            return []
        # A row is the number of the image, the corners, the confidence and the landmarks.
        return [make_face(row[1:5], row[5], row[6:]) for row in np.asarray(rows, dtype=np.float64)]
