"""What a detector is: a picture goes in, faces come out. The engines behind it differ in speed alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from inference.mtcnn.steps import Steps

RGB = NDArray[np.uint8]

# The input side of P-Net: no smaller face can be seen, so no smaller picture can hold one (Zhang et al. 2016, fig. 2).
SMALLEST_FACE = 12


@dataclass(frozen=True, slots=True)
class Point:
    """A place in the picture: pixels from its top left corner, sub-pixel."""

    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Box:
    """A bounding box, both corners inside the picture."""

    up_left: Point
    lower_right: Point

    @property
    def area(self) -> float:
        """Square pixels."""
        return (self.lower_right.x - self.up_left.x) * (self.lower_right.y - self.up_left.y)


@dataclass(frozen=True, slots=True)
class Landmarks:
    """The five points of a face; left and right as the viewer of the picture sees them."""

    left_eye: Point
    right_eye: Point
    nose: Point
    mouth_left: Point
    mouth_right: Point


@dataclass(frozen=True, slots=True)
class Face:
    """One face; confidence is 0 to 1."""

    box: Box
    landmarks: Landmarks
    confidence: float


@dataclass(frozen=True, slots=True)
class DetectOptions:
    """What one request may choose. Sizes are sides of a box in pixels; max_faces 0 means all."""

    min_face_size: int = 20
    min_confidence: float = 0.0
    max_faces: int = 0


@dataclass(frozen=True, slots=True)
class CascadeSettings:
    """What holds for all requests: the pyramid's factor and the threshold of each network's score."""

    scale_factor: float = 0.709
    pnet_threshold: float = 0.6
    rnet_threshold: float = 0.7
    onet_threshold: float = 0.8


class Engine(Protocol):
    """The cascade on one model runtime. All engines give the same faces; `tensorflow` is the reference."""

    name: str
    device: str

    def find_faces(self, picture: RGB, min_face_size: int, steps: Steps) -> list[Face]:
        """Find every face whose box has a side of at least about `min_face_size` pixels.

        `picture` is (height, width, 3), RGB, each side at least SMALLEST_FACE. Each network runs as a step of its own.
        """


class Detector:
    """One engine, ready to use: what the service holds, warms up and calls, one picture at a time."""

    model = "mtcnn"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def engine(self) -> str:
        """The engine's name."""
        return self._engine.name

    @property
    def device(self) -> str:
        """What the engine computes on: CPU, or a provider of ONNX Runtime."""
        return self._engine.device

    def detect(self, picture: RGB, options: DetectOptions, steps: Steps) -> list[Face]:
        """Find the faces in an upright picture of shape (height, width, 3), RGB.

        They come in the engine's order, best confidence first; when `max_faces` cuts them, the largest boxes first. A
        picture too small to hold a face has none. Raises `steps.Abandoned` when nobody waits for the answer any more.
        """
        if min(picture.shape[:2]) < SMALLEST_FACE:
            return []
        faces = self._engine.find_faces(picture, options.min_face_size, steps)
        faces = [face for face in faces if face.confidence >= options.min_confidence]
        if 0 < options.max_faces < len(faces):
            faces = sorted(faces, key=lambda face: face.box.area, reverse=True)[: options.max_faces]
        return faces
