"""Frames out of videos, and drawn ones into them."""

from __future__ import annotations

import io
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import av
import pytest
from facet import FacetError
from facet.command.video import DrawnFrames, DrawnVideo, Frame, Newest, Video
from PIL import Image

from tests.conftest import encode

# How a film is turned before it is shown, in the units of its file: ISO/IEC 14496-12, 6.2.2.
LYING = (1 << 16, 0, 0, 0, 1 << 16)
STANDING = (0, 1 << 16, 0, -1 << 16, 0)


@pytest.fixture
def film(tmp_path: Path) -> str:
    """Fifty grey frames, 25 a second, each lighter than the one before; an odd number of pixels a side."""
    path = tmp_path / "film.mp4"
    with DrawnVideo(path) as video:
        for number in range(50):
            video.write(Frame(number, number / 25, None), encode(Image.new("L", (97, 65), 5 * number)))
    return str(path)


def numbers(video: Video) -> list[int]:
    return [frame.number for frame in video]


def test_all_frames_come_in_their_order_with_their_times(film: str) -> None:
    """As upright JPEG files."""
    frames = list(Video(film))
    assert [frame.number for frame in frames] == list(range(50))
    assert [round(25 * frame.seconds) for frame in frames] == list(range(50))
    assert frames[0].jpeg().startswith(b"\xff\xd8")
    assert Video(film).count() == 50


def test_frames_are_chosen_by_number_or_by_the_videos_own_time(film: str) -> None:
    """However fast they are read."""
    assert numbers(Video(film, every=20)) == [0, 20, 40]
    assert Video(film, every=20).count() == 3
    assert numbers(Video(film, fps=2)) == [0, 13, 25, 38]
    assert numbers(Video(film, fps=100)) == list(range(50))


def test_frames_without_a_time_are_counted(tmp_path: Path) -> None:
    """By the video's own rate: here H.264 as it comes from a camera, with nothing around it."""
    path = tmp_path / "film.h264"
    with DrawnVideo(path) as video:
        for number in range(50):
            video.write(Frame(number, number / 25, None), encode(Image.new("L", (96, 64), 5 * number)))
    assert [round(25 * frame.seconds) for frame in Video(str(path))] == list(range(50))
    assert numbers(Video(str(path), fps=2)) == [0, 13, 25, 38]


def test_a_turned_video_comes_upright(tmp_path: Path) -> None:
    """Telephones write how they were held: here its top left corner, which is white, was at the top right."""
    film, turned = tmp_path / "film.mp4", tmp_path / "turned.mp4"
    corner = Image.new("L", (96, 64))
    corner.paste(255, (0, 0, 32, 32))
    with DrawnVideo(film) as video:
        video.write(Frame(0, 0.0, None), encode(corner))
    lying, standing = (struct.pack(">9i", *turn, 0, 0, 0, 1 << 30) for turn in (LYING, STANDING))
    assert film.read_bytes().count(lying) == 2  # of the film, and of its only track
    turned.write_bytes(standing.join(film.read_bytes().rsplit(lying, 1)))
    (frame,) = Video(str(turned))
    with Image.open(io.BytesIO(frame.jpeg())) as image:
        assert image.size == (64, 96)
        corners = [image.convert("L").getpixel(place) for place in ((5, 5), (58, 5), (5, 90), (58, 90))]
    assert corners == pytest.approx([0, 255, 0, 0], abs=20)


def test_what_is_no_video_is_said(tmp_path: Path) -> None:
    """With its name."""
    letter = tmp_path / "letter.mp4"
    letter.write_text("Dear Sir")
    with pytest.raises(FacetError, match=r"letter\.mp4"):
        Video(str(letter)).count()
    with pytest.raises(FacetError, match=r"gone\.mp4"):
        list(Video(str(tmp_path / "gone.mp4")))


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    """A form that is none, one that holds no pictures, a full disk; in the end, too, and for single frames."""
    (tmp_path / "full.mkv").symlink_to("/dev/full")
    (tmp_path / "file").touch()
    for name in ("film.xyz", "film.wav", "full.mkv"):
        with pytest.raises(FacetError, match=f"UNWRITABLE: .*{name}"), DrawnVideo(tmp_path / name) as video:
            video.write(Frame(0, 0.0, None), encode(Image.new("L", (96, 64))))
    with pytest.raises(FacetError, match="UNWRITABLE"), DrawnFrames(tmp_path / "file") as frames:
        frames.write(Frame(0, 0.0, None), b"")


def test_of_a_camera_the_newest_frame_is_taken_and_the_others_are_dropped() -> None:
    """Until it ends; nothing is queued."""
    taken, shown = threading.Event(), threading.Event()

    def stand_in_camera() -> Iterator[Frame]:
        yield from (Frame(number, 0.0, None) for number in range(10))
        shown.set()
        assert taken.wait(60)
        yield Frame(10, 0.0, None)

    newest = Newest(stand_in_camera())
    assert shown.wait(60)
    assert next(newest).number == 9
    taken.set()
    assert [frame.number for frame in newest] == [10]
    assert newest.dropped == 9


@pytest.mark.parametrize("fault", [FacetError("UNREADABLE", "unplugged"), MemoryError("unplugged")])
def test_a_camera_that_fails_says_so(fault: Exception) -> None:
    """To who asks for a frame, whatever it is."""

    def stand_in_camera() -> Iterator[Frame]:
        yield Frame(0, 0.0, None)
        raise fault

    newest = Newest(stand_in_camera())
    with pytest.raises(type(fault), match="unplugged"):
        list(newest)


def test_a_drawn_video_keeps_the_times_of_its_frames(tmp_path: Path) -> None:
    """In the form that its name asks for."""
    path = tmp_path / "drawn.webm"
    with DrawnVideo(path) as video:
        for number, seconds in enumerate((0.0, 0.5, 2.0)):
            video.write(Frame(number, seconds, None), encode(Image.new("RGB", (64, 48))))
    with av.open(str(path)) as container:
        assert "webm" in container.format.name
        assert [frame.time for frame in container.decode(video=0)] == pytest.approx([0.0, 0.5, 2.0], abs=0.01)
