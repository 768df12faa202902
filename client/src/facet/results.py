"""What the clients give: the same types whatever they speak, with equal values for equal pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Point:
    """A place in the upright picture: pixels from its top left corner, sub-pixel."""

    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Box:
    """A bounding box by two of its corners."""

    up_left: Point
    lower_right: Point

    @property
    def width(self) -> float:
        """Pixels."""
        return self.lower_right.x - self.up_left.x

    @property
    def height(self) -> float:
        """Pixels."""
        return self.lower_right.y - self.up_left.y


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
    """One face; `confidence` is 0 to 1."""

    box: Box
    landmarks: Landmarks
    confidence: float


@dataclass(frozen=True, slots=True)
class Detection:
    """The faces of one picture, best confidence first unless `max_faces` cut them, and the upright picture's size.

    Two detections are equal when they found the same: who found it, and how fast, is left out.
    """

    faces: tuple[Face, ...]
    width: int
    height: int
    orientation: int
    """The EXIF orientation that was undone, 1 to 8; 1 is upright already."""
    image_id: str = field(default="", compare=False)
    model: str = field(default="", compare=False)
    engine: str = field(default="", compare=False)
    worker: str = field(default="", compare=False)
    milliseconds: Mapping[str, float] = field(default_factory=dict, compare=False)
    """What each step took."""


@dataclass(frozen=True, slots=True)
class Annotated:
    """A drawn picture, as the bytes of a JPEG or PNG file, and how many faces it shows or hides."""

    picture: bytes = field(repr=False)
    face_count: int
    detection: Detection | None = field(default=None, compare=False)
    """The faces themselves, which come along over gRPC and locally, but not over HTTP."""


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the service answers, and whether it would examine a picture."""

    alive: bool
    ready: bool
    milliseconds: float
    """What asking took."""
    message: str = ""
    """What is wrong; empty when it is ready."""
