"""The records of images as JSON Lines or CSV: how they are written, and how an earlier run's file is read."""

import csv
import io
import itertools
import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from facet.errors import FacetError
from facet.results import LANDMARKS, Detection, Face, Point

COLUMNS = [
    *("width", "height", "faces", "face", "confidence", "x1", "y1", "x2", "y2"),
    *(f"{name}_{axis}" for name in LANDMARKS for axis in ("x", "y")),
    *("error", "message"),
]
NO_RECORD = "a line is not a record of an image"


class UnknownFile(Exception):
    """The file was not written by this command in this form."""


class JsonLines:
    """One object per line."""

    header = ""

    def __init__(self, *names: str) -> None:
        self._names = names

    def record(self, keys: Sequence[Any], result: Detection | FacetError) -> str:
        record: dict[str, Any] = dict(zip(self._names, keys, strict=True))
        if isinstance(result, FacetError):
            record["error"] = {"code": result.code, "message": result.message}
        else:
            record |= {"width": result.width, "height": result.height}
            record["faces"] = [_face_as_json(face) for face in result.faces]
        return json.dumps(record) + "\n"

    def complete(self, lines: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Yield the first key and the line of each image that was examined. Raises UnknownFile."""
        opening, recognized = json.dumps({self._names[0]: ""})[:-2], False
        for line in lines:
            try:
                record = json.loads(line)
                key, failed = record[self._names[0]], "error" in record
                recognized = failed or "faces" in record
            except (ValueError, TypeError, LookupError) as error:
                if line.endswith("\n") or not (recognized or line.startswith(opening) or opening.startswith(line)):
                    raise UnknownFile(NO_RECORD) from error
                return  # the last line is incomplete
            if not recognized:
                raise UnknownFile(NO_RECORD)
            if line.endswith("\n") and not failed:
                yield key, line


class Csv:
    """One row per face; one row for an image without faces or with an error."""

    def __init__(self, *names: str) -> None:
        self._columns = [*names, *COLUMNS]
        self._faces = self._columns.index("faces")
        self.header = _as_csv([self._columns])

    def record(self, keys: Sequence[Any], result: Detection | FacetError) -> str:
        if isinstance(result, FacetError):
            return _as_csv([[*keys, *[""] * (len(COLUMNS) - 2), result.code, result.message]])
        about = [*keys, result.width, result.height, len(result.faces)]
        rows = [[*about, number, *_face_as_row(face), "", ""] for number, face in enumerate(result.faces, 1)]
        return _as_csv(rows or [[*about, *[""] * (len(self._columns) - len(about))]])

    def complete(self, lines: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Yield the first key and the rows of each image that was examined and has all rows. Raises UnknownFile."""
        lines = iter(lines)
        if not self.header.startswith(next(lines, "")):  # the header may be incomplete
            raise UnknownFile("the first line does not name these columns")
        whole_lines = (line for line in lines if line.endswith("\n"))
        try:
            for key, group in itertools.groupby(csv.reader(whole_lines), key=lambda row: row[0] if row else ""):
                rows = list(group)
                complete = all(len(row) == len(self._columns) for row in rows)
                if complete and rows[0][self._faces] in (str(len(rows)), "0"):  # an error has none
                    yield key, _as_csv(rows)
        except csv.Error as error:
            raise UnknownFile(f"a line is not a row: {error}") from error


Form = JsonLines | Csv
"""A form of output. Each record begins with its keys, such as the image's path, and has faces or an error."""


def _as_csv(rows: Iterable[Iterable[Any]]) -> str:
    return "".join(map(_as_row, rows))


def _as_row(row: Iterable[Any]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(row)  # its line end, \r\n, makes it quote a path with either
    return text.getvalue().removesuffix("\r\n") + "\n"


def _face_as_row(face: Face) -> list[float]:
    points = [face.box.up_left, face.box.lower_right, *(getattr(face.landmarks, name) for name in LANDMARKS)]
    return [face.confidence, *(_shortest(number) for point in points for number in (point.x, point.y))]


def _face_as_json(face: Face) -> dict[str, Any]:
    """Use the names of the service's JSON."""
    return {
        "box": {"upLeft": _point(face.box.up_left), "lowerRight": _point(face.box.lower_right)},
        "landmarks": {_camel(name): _point(getattr(face.landmarks, name)) for name in LANDMARKS},
        "confidence": face.confidence,
    }


def _point(point: Point) -> dict[str, float]:
    return {"x": _shortest(point.x), "y": _shortest(point.y)}


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(map(str.capitalize, tail))


def _shortest(number: float) -> float:
    """Return the shortest decimal of the same float32, the type of a coordinate on the wire."""
    for digits in range(6, 9):
        short = float(f"{number:.{digits}g}")
        if struct.pack("f", short) == struct.pack("f", number):
            return short
    return float(f"{number:.9g}")  # nine digits always suffice
