"""The results of a command: one for each image or frame, and their summary."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from facet.command.display import Display
from facet.command.records import Form
from facet.errors import FacetError
from facet.results import Detection


@dataclass(frozen=True, slots=True)
class Result:
    """The result for an image. An image that was only drawn, over HTTP, has the number of its faces alone."""

    name: str
    detection: Detection | None = None
    face_count: int = 0
    error: FacetError | None = None
    keys: tuple[Any, ...] = ()
    """The first fields of its record; its name if there are none."""


@dataclass(slots=True)
class Summary:
    what: str = "image"
    examined: int = 0
    failed: int = 0
    faces: int = 0
    began: float = field(default_factory=time.monotonic)

    def add(self, result: Result) -> None:
        self.failed += result.error is not None
        self.examined += result.error is None
        self.faces += result.face_count

    @property
    def count(self) -> int:
        return self.examined + self.failed

    def __str__(self) -> str:
        count, seconds = self.count, time.monotonic() - self.began
        failed = f", {self.failed:,} failed" if self.failed else ""
        rate = count / max(seconds, 0.001)
        return f"{_number(count, self.what)} in {seconds:.1f} s ({rate:.1f}/s){failed}, {_number(self.faces, 'face')}"


def recorder(form: Form | None, write: Callable[[str], None], display: Display) -> Callable[[Result], None]:
    """Return a function that writes a result, as a record or as a line for people, and advances the bar."""

    def record(result: Result) -> None:
        if result.error:
            display.remark(as_line(result), always=form is None)  # no record holds it
        if form and (found := result.error or result.detection):
            write(form.record(result.keys or (result.name,), found))
        elif not result.error:
            write(as_line(result) + "\n")
        display.advance(failed=result.error is not None)

    return record


def as_line(result: Result) -> str:
    if result.error:
        return f"{result.name}: {result.error}"
    line = f"{result.name}: {_number(result.face_count, 'face')}"
    for face in result.detection.faces if result.detection else ():
        box = face.box
        place = f"{box.up_left.x:.0f}, {box.up_left.y:.0f}"
        line += f"\n  {box.width:.0f} x {box.height:.0f} at ({place}), confidence {face.confidence:.4f}"
    return line


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
