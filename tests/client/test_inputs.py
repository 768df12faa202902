"""Which pictures a command line means."""

from __future__ import annotations

from pathlib import Path

import pytest
from facet.command.inputs import list_inputs


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with sub-folders, in which the test stands beside it."""
    for name in ("b.jpg", "a.PNG", "notes.txt", "sub/c.webp", "sub/deep/d.jpeg", "sub/a[1].jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def paths(*arguments: str, listed: tuple[str, ...] = (), leave_out: Path | None = None) -> list[str]:
    return [each.path for each in list_inputs(arguments, listed, leave_out)]


def mirrors(*arguments: str, listed: tuple[str, ...] = ()) -> list[str]:
    return [each.mirror for each in list_inputs(arguments, listed, None)]


@pytest.mark.usefixtures("photos")
def test_a_folder_means_all_pictures_below_it_in_the_order_of_their_names() -> None:
    """Whatever else is there is left."""
    below = ["photos/a.PNG", "photos/b.jpg", "photos/sub/a[1].jpg", "photos/sub/c.webp", "photos/sub/deep/d.jpeg"]
    assert paths("photos") == below
    assert mirrors("photos") == [path.removeprefix("photos/") for path in below]
    assert paths("./photos/sub/deep") == ["./photos/sub/deep/d.jpeg"]


def test_folders_are_in_the_order_of_their_names_too(tmp_path: Path) -> None:
    """Whatever order the file system has."""
    names = [f"{(7 * number) % 30:02}" for number in range(30)]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpg").touch()
    assert paths(str(tmp_path)) == [f"{tmp_path}/{name}/a.jpg" for name in sorted(names)]


@pytest.mark.usefixtures("photos")
def test_a_pattern_that_the_shell_left_alone_is_expanded() -> None:
    """Also over sub-folders; drawn pictures are put as below the folder that it begins with."""
    assert paths("photos/**/*.jp*g") == ["photos/b.jpg", "photos/sub/a[1].jpg", "photos/sub/deep/d.jpeg"]
    assert mirrors("photos/*/*.webp") == ["sub/c.webp"]
    assert paths("photos/*.gif") == []


@pytest.mark.usefixtures("photos")
def test_a_file_is_taken_by_its_name_whatever_that_is() -> None:
    """Brackets in it are no pattern; one that is not there is for the reader to find out."""
    assert paths("photos/notes.txt", "photos/sub/a[1].jpg") == ["photos/notes.txt", "photos/sub/a[1].jpg"]
    assert paths("gone.jpg", "photos/b.jpg") == ["gone.jpg", "photos/b.jpg"]


@pytest.mark.usefixtures("photos")
def test_each_picture_is_taken_once_in_the_order_of_the_arguments() -> None:
    """However often it is named."""
    assert paths("photos/sub/c.webp", "-", "photos/sub", "-", listed=("photos/b.jpg", "photos/sub/c.webp")) == [
        "photos/sub/c.webp",
        "-",
        "photos/sub/a[1].jpg",
        "photos/sub/deep/d.jpeg",
        "photos/b.jpg",
    ]


@pytest.mark.usefixtures("photos")
def test_files_of_the_same_name_are_drawn_to_different_places() -> None:
    """Below the folder that all of them share."""
    assert mirrors("photos/b.jpg", "photos/sub/b.jpg") == ["b.jpg", "sub/b.jpg"]
    assert mirrors("photos/b.jpg", listed=("photos/sub/b.jpg",)) == ["b.jpg", "sub/b.jpg"]
    assert mirrors("photos/b.jpg") == ["b.jpg"]


def test_the_folder_of_drawn_pictures_is_left_out(photos: Path) -> None:
    """Or they would be drawn again."""
    assert paths("photos", leave_out=photos / "sub") == ["photos/a.PNG", "photos/b.jpg"]
