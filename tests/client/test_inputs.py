"""The images that a command line names."""

from pathlib import Path

import pytest
from facet.command.inputs import list_inputs


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with subfolders, in the working directory."""
    for name in ("b.jpg", "a.PNG", "notes.txt", "sub/c.webp", "sub/deep/d.jpeg", "sub/a[1].jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def paths(*arguments: str, listed: tuple[str, ...] = (), exclude: Path | None = None) -> list[str]:
    return [each.path for each in list_inputs(arguments, listed, exclude)]


def relative_paths(*arguments: str, listed: tuple[str, ...] = ()) -> list[str]:
    return [each.relative_path for each in list_inputs(arguments, listed, None)]


@pytest.mark.usefixtures("photos")
def test_a_folder_names_all_its_images_in_the_order_of_their_names() -> None:
    """Other files are ignored."""
    below = ["photos/a.PNG", "photos/b.jpg", "photos/sub/a[1].jpg", "photos/sub/c.webp", "photos/sub/deep/d.jpeg"]
    assert paths("photos") == below
    assert relative_paths("photos") == [path.removeprefix("photos/") for path in below]
    assert paths("./photos/sub/deep") == ["./photos/sub/deep/d.jpeg"]


def test_subfolders_are_in_the_order_of_their_names(tmp_path: Path) -> None:
    """The order of the file system does not matter."""
    names = [f"{(7 * number) % 30:02}" for number in range(30)]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpg").touch()
    assert paths(str(tmp_path)) == [f"{tmp_path}/{name}/a.jpg" for name in sorted(names)]


@pytest.mark.usefixtures("photos")
def test_a_pattern_that_the_shell_left_alone_is_expanded() -> None:
    """Subfolders included. Paths are relative to the folder that the pattern begins with."""
    assert paths("photos/**/*.jp*g") == ["photos/b.jpg", "photos/sub/a[1].jpg", "photos/sub/deep/d.jpeg"]
    assert relative_paths("photos/*/*.webp") == ["sub/c.webp"]
    assert paths("photos/*.gif") == []


@pytest.mark.usefixtures("photos")
def test_a_file_is_named_directly_whatever_its_suffix() -> None:
    """Brackets in its name are not a pattern. A missing file is in the list, and reading it fails."""
    assert paths("photos/notes.txt", "photos/sub/a[1].jpg") == ["photos/notes.txt", "photos/sub/a[1].jpg"]
    assert paths("gone.jpg", "photos/b.jpg") == ["gone.jpg", "photos/b.jpg"]


@pytest.mark.usefixtures("photos")
def test_each_image_is_listed_once_in_the_order_of_the_arguments() -> None:
    """Even if it is named twice."""
    assert paths("photos/sub/c.webp", "-", "photos/sub", "-", listed=("photos/b.jpg", "photos/sub/c.webp")) == [
        "photos/sub/c.webp",
        "-",
        "photos/sub/a[1].jpg",
        "photos/sub/deep/d.jpeg",
        "photos/b.jpg",
    ]


@pytest.mark.usefixtures("photos")
def test_files_of_the_same_name_have_different_relative_paths() -> None:
    """They are relative to the common folder of all files."""
    assert relative_paths("photos/b.jpg", "photos/sub/b.jpg") == ["b.jpg", "sub/b.jpg"]
    assert relative_paths("photos/b.jpg", listed=("photos/sub/b.jpg",)) == ["b.jpg", "sub/b.jpg"]
    assert relative_paths("photos/b.jpg") == ["b.jpg"]


def test_the_folder_of_drawn_images_is_excluded(photos: Path) -> None:
    """Otherwise the next run would draw the drawn images."""
    assert paths("photos", exclude=photos / "sub") == ["photos/a.PNG", "photos/b.jpg"]
