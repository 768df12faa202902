"""What becomes of pictures: of each one, and of all."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from facet.command.display import Display
from facet.command.records import Form
from facet.errors import FacetError
from facet.results import Detection


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a picture. One that was only drawn, over HTTP, has no faces but their number."""

    name: str
    detection: Detection | None = None
    face_count: int = 0
    error: FacetError | None = None
    keys: tuple[Any, ...] = ()
    """What its record begins with; its name, unless there is something else."""


@dataclass(slots=True)
class Summary:
    """What became of all of them."""

    what: str = "picture"
    examined: int = 0
    failed: int = 0
    faces: int = 0
    began: float = field(default_factory=time.monotonic)

    def add(self, outcome: Outcome) -> None:
        """Count one more."""
        self.failed += outcome.error is not None
        self.examined += outcome.error is None
        self.faces += outcome.face_count

    @property
    def count(self) -> int:
        """How many there were."""
        return self.examined + self.failed

    def __str__(self) -> str:
        """Say it in a line; the time is that until now."""
        count, seconds = self.count, time.monotonic() - self.began
        failed = f", {self.failed:,} failed" if self.failed else ""
        rate = count / max(seconds, 0.001)
        return f"{_number(count, self.what)} in {seconds:.1f} s ({rate:.1f}/s){failed}, {_number(self.faces, 'face')}"


def recorder(form: Form | None, write: Callable[[str], None], display: Display) -> Callable[[Outcome], None]:
    """Give what writes an outcome, as a record or as a line for people, and moves the bar on."""

    def record(outcome: Outcome) -> None:
        if outcome.error:
            display.remark(as_line(outcome), always=form is None)  # it stands in no record
        if form and (result := outcome.error or outcome.detection):
            write(form.record(outcome.keys or (outcome.name,), result))
        elif not outcome.error:
            write(as_line(outcome) + "\n")
        display.advance(failed=outcome.error is not None)

    return record


def as_line(outcome: Outcome) -> str:
    """Put an outcome into lines for people."""
    if outcome.error:
        return f"{outcome.name}: {outcome.error}"
    line = f"{outcome.name}: {_number(outcome.face_count, 'face')}"
    for face in outcome.detection.faces if outcome.detection else ():
        box = face.box
        place = f"{box.up_left.x:.0f}, {box.up_left.y:.0f}"
        line += f"\n  {box.width:.0f} x {box.height:.0f} at ({place}), confidence {face.confidence:.4f}"
    return line


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
