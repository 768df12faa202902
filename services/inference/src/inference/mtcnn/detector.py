"""The detector: pixels in, faces out. The engines behind it differ only in speed."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from inference.mtcnn.steps import Steps

RGB = NDArray[np.uint8]  # (height, width, 3)

# The side of P-Net's input in pixels: smaller faces, and faces in smaller images, cannot be found (Zhang et al. 2016,
# fig. 2).
SMALLEST_FACE = 12


@dataclass(frozen=True, slots=True)
class Point:
    """A point in the upright image: pixels from its top left corner, sub-pixel."""

    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Box:
    """A bounding box with both corners inside the image."""

    up_left: Point
    lower_right: Point

    @property
    def area(self) -> float:
        return (self.lower_right.x - self.up_left.x) * (self.lower_right.y - self.up_left.y)


@dataclass(frozen=True, slots=True)
class Landmarks:
    """The five points of a face. Left and right are those of the viewer."""

    left_eye: Point
    right_eye: Point
    nose: Point
    mouth_left: Point
    mouth_right: Point


@dataclass(frozen=True, slots=True)
class Face:
    """One face. The confidence is 0 to 1."""

    box: Box
    landmarks: Landmarks
    confidence: float


@dataclass(frozen=True, slots=True)
class DetectOptions:
    """The options of one request. `min_face_size` is a box's side in pixels; a `max_faces` of 0 keeps all faces."""

    min_face_size: int = 20
    min_confidence: float = 0.0
    max_faces: int = 0


@dataclass(frozen=True, slots=True)
class CascadeSettings:
    """The settings for all requests: the factor from level to level, and the threshold for each network's score."""

    scale_factor: float = 0.709
    pnet_threshold: float = 0.6
    rnet_threshold: float = 0.7
    onet_threshold: float = 0.8


class Engine(Protocol):
    """The cascade on one model runtime. All engines find the same faces; `tensorflow` is the reference."""

    name: str
    device: str

    def find_faces(self, pixels: RGB, min_face_size: int, steps: Steps) -> list[Face]:
        """Find the faces whose boxes have a side of about `min_face_size` pixels or more.

        `pixels` is upright, with sides of at least SMALLEST_FACE. Each network is one of `steps`. Raises Abandoned.
        """


class Detector:
    """Applies the options of a request to the faces that an engine finds. It examines one image at a time."""

    model = "mtcnn"

    def __init__(self, engine: Engine) -> None:
        self.engine = engine.name
        self.device = engine.device  # CPU, or a provider of ONNX Runtime
        self._find_faces = engine.find_faces

    def detect(self, pixels: RGB, options: DetectOptions, steps: Steps) -> list[Face]:
        """Find the faces in an upright image, `pixels` (height, width, 3) uint8 RGB.

        The best confidence comes first, or, if there are more than `max_faces`, the largest box. An image smaller than
        SMALLEST_FACE has no faces. Raises `steps.Abandoned` when the caller no longer waits.
        """
        if min(pixels.shape[:2]) < SMALLEST_FACE:
            return []
        faces = self._find_faces(pixels, options.min_face_size, steps)
        faces = [face for face in faces if face.confidence >= options.min_confidence]
        if 0 < options.max_faces < len(faces):
            faces = sorted(faces, key=lambda face: face.box.area, reverse=True)[: options.max_faces]
        return faces
