"""What is written about a picture, as JSON Lines or CSV, and what of an earlier run's file still holds."""

from __future__ import annotations

import csv
import io
import itertools
import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Any, Protocol

from facet.errors import FacetError
from facet.results import Detection, Face, Landmarks, Point

MARKS = [field.name for field in fields(Landmarks)]
COLUMNS = [
    *("width", "height", "faces", "face", "confidence", "x1", "y1", "x2", "y2"),
    *(f"{mark}_{axis}" for mark in MARKS for axis in ("x", "y")),
    *("error", "message"),
]
NO_RECORD = "it has a line that is no record of a picture"


class NotOurs(Exception):
    """A file that this command has not written in this form."""


class Form(Protocol):
    """A form of output. Each record begins with its keys, such as the picture's path, and has faces or an error."""

    @property
    def header(self) -> str:
        """What stands before all records."""

    def record(self, keys: Sequence[Any], result: Detection | FacetError) -> str:
        """Put a record into whole lines."""

    def good(self, lines: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Give the first key and the lines of each whole record without an error. Raises NotOurs."""


class JsonLines:
    """One object a line."""

    header = ""

    def __init__(self, *names: str) -> None:
        self._names = names

    def record(self, keys: Sequence[Any], result: Detection | FacetError) -> str:
        """Put a record into one line."""
        said: dict[str, Any] = dict(zip(self._names, keys, strict=True))
        if isinstance(result, FacetError):
            said["error"] = {"code": result.code, "message": result.message}
        else:
            said |= {"width": result.width, "height": result.height}
            said["faces"] = [_face_as_json(face) for face in result.faces]
        return json.dumps(said) + "\n"

    def good(self, lines: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Give the first key and the line of each picture that was examined. Raises NotOurs."""
        opening, recognised = json.dumps({self._names[0]: ""})[:-2], False
        for line in lines:
            try:
                said = json.loads(line)
                key, failed = said[self._names[0]], "error" in said
                recognised = failed or "faces" in said
            except (ValueError, TypeError, LookupError) as error:
                if line.endswith("\n") or not (recognised or line.startswith(opening) or opening.startswith(line)):
                    raise NotOurs(NO_RECORD) from error
                return  # cut off
            if not recognised:
                raise NotOurs(NO_RECORD)
            if line.endswith("\n") and not failed:
                yield key, line


class Csv:
    """One row a face; a picture without a face, or with an error, has one too."""

    def __init__(self, *names: str) -> None:
        self._columns = [*names, *COLUMNS]
        self._faces = self._columns.index("faces")

    @property
    def header(self) -> str:
        """The columns' names."""
        return _as_csv([self._columns])

    def record(self, keys: Sequence[Any], result: Detection | FacetError) -> str:
        """Put a record into one row a face, at least one."""
        if isinstance(result, FacetError):
            return _as_csv([[*keys, *[""] * (len(COLUMNS) - 2), result.code, result.message]])
        about = [*keys, result.width, result.height, len(result.faces)]
        rows = [[*about, number, *_face_as_row(face), "", ""] for number, face in enumerate(result.faces, 1)]
        return _as_csv(rows or [[*about, *[""] * (len(self._columns) - len(about))]])

    def good(self, lines: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Give the first key and the rows of each picture that was examined and has all of them. Raises NotOurs."""
        lines = iter(lines)
        if not self.header.startswith(next(lines, "")):  # which may have been cut off
            raise NotOurs("its first line does not name these columns")
        whole_lines = (line for line in lines if line.endswith("\n"))
        try:
            for key, group in itertools.groupby(csv.reader(whole_lines), key=lambda row: row[0] if row else ""):
                rows = list(group)
                whole = all(len(row) == len(self._columns) for row in rows)
                if whole and rows[0][self._faces] in (str(len(rows)), "0"):  # as many as rows; none with an error
                    yield key, _as_csv(rows)
        except csv.Error as error:
            raise NotOurs(f"it has a line that is no row: {error}") from error


def _as_csv(rows: Iterable[Iterable[Any]]) -> str:
    return "".join(map(_as_row, rows))


def _as_row(row: Iterable[Any]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(row)  # whose end of line, \r\n, has it quote a path that holds either
    return text.getvalue().removesuffix("\r\n") + "\n"


def _face_as_row(face: Face) -> list[float]:
    points = [face.box.up_left, face.box.lower_right, *(getattr(face.landmarks, mark) for mark in MARKS)]
    return [face.confidence, *(_shortest(number) for point in points for number in (point.x, point.y))]


def _face_as_json(face: Face) -> dict[str, Any]:
    """Name things as the service's own JSON does."""
    return {
        "box": {"upLeft": _point(face.box.up_left), "lowerRight": _point(face.box.lower_right)},
        "landmarks": {_camel(mark): _point(getattr(face.landmarks, mark)) for mark in MARKS},
        "confidence": face.confidence,
    }


def _point(point: Point) -> dict[str, float]:
    return {"x": _shortest(point.x), "y": _shortest(point.y)}


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(map(str.capitalize, tail))


def _shortest(number: float) -> float:
    """Give the shortest decimal that is the same float32, which is what a coordinate is on the wire."""
    for digits in range(6, 9):
        short = float(f"{number:.{digits}g}")
        if struct.pack("f", short) == struct.pack("f", number):
            return short
    return float(f"{number:.9g}")  # always enough
