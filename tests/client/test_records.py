"""The files of records, and what a later run keeps of an interrupted one."""

import csv
import io
import json
import os
from pathlib import Path

import pytest
from facet import Box, Detection, Face, FacetError, Landmarks, Point
from facet.command.output import OutputFailed, OutputFile, write_atomically
from facet.command.records import Csv, Form, JsonLines, UnknownFile

NOSE = Point(1.1000000238418579, 2.0)  # 1.1 as float32
FACE = Face(
    Box(Point(0.0, 181.59782409667969), Point(7.5, 9.0)), Landmarks(NOSE, NOSE, NOSE, NOSE, NOSE), 0.9991206526756287
)
RESULTS: dict[str, Detection | FacetError] = {
    'with, "quotes"\nand a line.jpg': Detection((FACE, FACE), 640, 480, 1),
    "none.jpg": Detection((), 10, 10, 1),
    "broken.jpg": FacetError("INVALID_IMAGE", 'damaged,\n"cut"'),
    "\udcff.jpg": Detection((FACE,), 1, 1, 1),  # a name that is not UTF-8
    "a\rreturn.jpg": Detection((), 10, 10, 1),
    "last.jpg": Detection((FACE, FACE, FACE), 3, 3, 1),
}
EXAMINED = {path for path, result in RESULTS.items() if isinstance(result, Detection)}

forms = pytest.mark.parametrize("form", [JsonLines("path"), Csv("path")], ids=["json", "csv"])


def write(file: OutputFile, form: Form, names: set[str]) -> None:
    with file.appending() as append:
        for name, result in RESULTS.items():
            if name in names:
                append(form.record((name,), result))


def resumed(path: Path, form: Form) -> set[str]:
    return OutputFile(path, form).resume(lambda _: True)


@forms
def test_a_file_cut_off_anywhere_has_each_image_once_after_resuming(tmp_path: Path, form: Form) -> None:
    """Cut at every byte, then resumed, it equals the file of an uninterrupted run."""
    path = tmp_path / "out"
    write(OutputFile(path, form), form, EXAMINED)
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        file = OutputFile(path, form)
        done = file.resume(lambda _: True)
        assert done <= EXAMINED
        write(file, form, EXAMINED - done)
        assert path.read_bytes() == whole, length


@forms
def test_a_failed_image_is_examined_again(tmp_path: Path, form: Form) -> None:
    """Its old record is dropped; so is that of an image whose drawn image is missing."""
    path = tmp_path / "out"
    write(OutputFile(path, form), form, set(RESULTS))
    assert resumed(path, form) == EXAMINED
    assert "INVALID_IMAGE" not in path.read_text(errors="surrogateescape")
    assert OutputFile(path, form).resume(lambda name: name == "none.jpg") == {"none.jpg"}
    assert resumed(path, form) == {"none.jpg"}


@forms
@pytest.mark.parametrize(
    "text",
    [
        "Dear Sir,\nhow are you?\n",
        "my notes",
        '{"name": "mine", "scripts": {}}',
        '{"path": "/usr/bin", "mode": 5}',
        '{"path": "/usr/bin", "mode": 5}\n',
        "path,mode\n",
        "path,wid th",
        '"path"',
        "\0\n",
    ],
)
def test_an_unknown_file_is_not_changed(tmp_path: Path, form: Form, text: str) -> None:
    """It may hold anything, also without a final newline."""
    path = tmp_path / "letter"
    path.write_text(text)
    with pytest.raises(UnknownFile):
        resumed(path, form)
    assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_with_an_invalid_row_is_not_changed(tmp_path: Path) -> None:
    """Its header is valid, but a row has an unquoted line end."""
    path, text = tmp_path / "out.csv", f"{Csv('path').header}a\rb,1\n"
    path.write_bytes(text.encode())
    with pytest.raises(UnknownFile):
        resumed(path, Csv("path"))
    assert path.read_bytes() == text.encode()


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    """Neither by records nor by a drawn image. An empty drawn image is replaced, since a crash may leave one."""
    path = tmp_path / "mine"
    path.write_text("mine")
    with pytest.raises(OutputFailed, match="mine: File exists"), OutputFile(path, JsonLines("path")).appending():
        pass
    with pytest.raises(FileExistsError):
        write_atomically(path, b"drawn")
    assert path.read_text() == "mine"
    path.write_text("")
    write_atomically(path, b"drawn")
    assert path.read_bytes() == b"drawn"
    assert list(tmp_path.iterdir()) == [path]


def test_csv_has_a_row_per_face_and_at_least_one_per_image(tmp_path: Path) -> None:
    """Coordinates are the shortest decimals of the same float32."""
    path = tmp_path / "out.csv"
    write(OutputFile(path, form := Csv("path")), form, set(RESULTS))
    rows = list(csv.DictReader(io.StringIO(os.fsdecode(path.read_bytes()), newline="")))
    assert [(row["faces"], row["face"], row["error"]) for row in rows] == [
        ("2", "1", ""),
        ("2", "2", ""),
        ("0", "", ""),
        ("", "", "INVALID_IMAGE"),
        ("1", "1", ""),
        ("0", "", ""),
        ("3", "1", ""),
        ("3", "2", ""),
        ("3", "3", ""),
    ]
    assert rows[5]["path"] == "a\rreturn.jpg"
    assert (rows[0]["path"], rows[3]["message"]) == ('with, "quotes"\nand a line.jpg', 'damaged,\n"cut"')
    assert [rows[0][name] for name in ("x1", "y1", "x2", "nose_x")] == ["0.0", "181.59782", "7.5", "1.1"]
    assert float(rows[0]["confidence"]) == FACE.confidence


def test_json_uses_the_names_of_the_service() -> None:
    """One parser reads both."""
    record = json.loads(JsonLines("path").record(("a.jpg",), Detection((FACE,), 640, 480, 1)))
    assert (record["path"], record["width"], record["height"]) == ("a.jpg", 640, 480)
    (face,) = record["faces"]
    assert face["box"]["upLeft"] == {"x": 0.0, "y": 181.59782}
    assert list(face["landmarks"]) == ["leftEye", "rightEye", "nose", "mouthLeft", "mouthRight"]
    failed = json.loads(JsonLines("path").record(("a.jpg",), FacetError("BUSY", "later")))
    assert failed == {"path": "a.jpg", "error": {"code": "BUSY", "message": "later"}}
