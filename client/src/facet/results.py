"""What the clients return: the same types over HTTP, over gRPC and locally, with equal values for equal images."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from facet.errors import FacetError

NO_ANSWER = ("UNREACHABLE", "BROKE_OFF", "DEADLINE_EXCEEDED")


@dataclass(frozen=True, slots=True)
class Point:
    """A point of the upright image, in pixels from the top left corner, with sub-pixel precision."""

    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Box:
    """A bounding box, given by two corners."""

    up_left: Point
    lower_right: Point

    @property
    def width(self) -> float:
        return self.lower_right.x - self.up_left.x

    @property
    def height(self) -> float:
        return self.lower_right.y - self.up_left.y


@dataclass(frozen=True, slots=True)
class Landmarks:
    """The five points of a face; left and right are those of the viewer."""

    left_eye: Point
    right_eye: Point
    nose: Point
    mouth_left: Point
    mouth_right: Point


LANDMARKS = [field.name for field in fields(Landmarks)]


@dataclass(frozen=True, slots=True)
class Face:
    """One face; `confidence` is 0 to 1."""

    box: Box
    landmarks: Landmarks
    confidence: float


@dataclass(frozen=True, slots=True)
class Detection:
    """The faces of one image and the size of the upright image.

    Faces are ordered by confidence, the highest first; with `max_faces`, by size. Two detections are equal when they
    found the same; the worker and the times do not count.
    """

    faces: tuple[Face, ...]
    width: int
    height: int
    orientation: int
    """The EXIF orientation that was undone, 1 to 8; 1 means that the image was upright."""
    image_id: str = field(default="", compare=False)
    model: str = field(default="", compare=False)
    engine: str = field(default="", compare=False)
    worker: str = field(default="", compare=False)
    milliseconds: Mapping[str, float] = field(default_factory=dict, compare=False)
    """The time of each step."""


@dataclass(frozen=True, slots=True)
class Annotated:
    """A drawn image, as the bytes of a JPEG or PNG file, and the number of faces that it shows or hides."""

    picture: bytes = field(repr=False)
    face_count: int
    detection: Detection | None = field(default=None, compare=False)
    """The faces, which gRPC and the local client return, but HTTP does not."""


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the service answers, and whether it is ready to examine images."""

    alive: bool
    ready: bool
    milliseconds: float
    """The time of the check."""
    message: str = ""
    """What is wrong; empty when the service is ready."""

    @classmethod
    def since(cls, began: float, message: str = "", *, alive: bool = True) -> Health:
        """Return the health found by a check that began at this time of `time.monotonic()`."""
        return cls(alive, ready=not message, milliseconds=1000 * (time.monotonic() - began), message=message)

    @classmethod
    def failed(cls, began: float, error: FacetError) -> Health:
        return cls.since(began, error.message, alive=error.code not in NO_ANSWER)
