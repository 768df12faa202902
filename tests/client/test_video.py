"""Frames read from videos, and drawn frames written to them."""

import io
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import av
import pytest
from facet import FacetError
from facet.command.video import DrawnFrames, DrawnVideo, Frame, LatestFrame, Video
from PIL import Image

from tests.conftest import encode

# How a player rotates a video, in the units of its file: ISO/IEC 14496-12, 6.2.2.
LYING = (1 << 16, 0, 0, 0, 1 << 16)
STANDING = (0, 1 << 16, 0, -1 << 16, 0)


@pytest.fixture
def film(tmp_path: Path) -> str:
    """Fifty gray frames, 25 per second, each lighter than the one before, with sides of odd length."""
    path = tmp_path / "film.mp4"
    with DrawnVideo(path) as video:
        for number in range(50):
            video.write(Frame(number, number / 25, None), encode(Image.new("L", (97, 65), 5 * number)))
    return str(path)


def numbers(video: Video) -> list[int]:
    return [frame.number for frame in video]


def test_all_frames_are_read_in_order_with_their_times(film: str) -> None:
    """Each is an upright JPEG file."""
    frames = list(Video(film))
    assert [frame.number for frame in frames] == list(range(50))
    assert [round(25 * frame.seconds) for frame in frames] == list(range(50))
    assert frames[0].jpeg().startswith(b"\xff\xd8")
    assert Video(film).count() == 50


def test_frames_are_chosen_by_number_or_by_time(film: str) -> None:
    """The time is that of the video."""
    assert numbers(Video(film, every=20)) == [0, 20, 40]
    assert Video(film, every=20).count() == 3
    assert numbers(Video(film, fps=2)) == [0, 13, 25, 38]
    assert numbers(Video(film, fps=100)) == list(range(50))


def test_frames_without_a_time_are_counted(tmp_path: Path) -> None:
    """Their times follow from the rate: here raw H.264, as a camera sends it."""
    path = tmp_path / "film.h264"
    with DrawnVideo(path) as video:
        for number in range(50):
            video.write(Frame(number, number / 25, None), encode(Image.new("L", (96, 64), 5 * number)))
    assert [round(25 * frame.seconds) for frame in Video(str(path))] == list(range(50))
    assert numbers(Video(str(path), fps=2)) == [0, 13, 25, 38]


def test_a_rotated_video_is_read_upright(tmp_path: Path) -> None:
    """Phones record how they were held: here the white corner at the top left belongs at the top right."""
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


def test_a_file_that_is_not_a_video_is_an_error(tmp_path: Path) -> None:
    """The error names the file."""
    letter = tmp_path / "letter.mp4"
    letter.write_text("Dear Sir")
    with pytest.raises(FacetError, match=r"letter\.mp4"):
        Video(str(letter)).count()
    with pytest.raises(FacetError, match=r"gone\.mp4"):
        list(Video(str(tmp_path / "gone.mp4")))


def test_a_video_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """An unknown format, a format without video, a full disk; also at the end, and for single frames."""
    (tmp_path / "full.mkv").symlink_to("/dev/full")
    (tmp_path / "file").touch()
    for name in ("film.xyz", "film.wav", "full.mkv"):
        with pytest.raises(FacetError, match=f"UNWRITABLE: .*{name}"), DrawnVideo(tmp_path / name) as video:
            video.write(Frame(0, 0.0, None), encode(Image.new("L", (96, 64))))
    with pytest.raises(FacetError, match="UNWRITABLE"), DrawnFrames(tmp_path / "file") as frames:
        frames.write(Frame(0, 0.0, None), b"")


def test_the_latest_frame_of_a_camera_is_taken_and_earlier_ones_are_dropped() -> None:
    """Nothing is queued."""
    taken, shown = threading.Event(), threading.Event()

    def stand_in_camera() -> Iterator[Frame]:
        yield from (Frame(number, 0.0, None) for number in range(10))
        shown.set()
        assert taken.wait(60)
        yield Frame(10, 0.0, None)

    latest = LatestFrame(stand_in_camera())
    assert shown.wait(60)
    assert next(latest).number == 9
    taken.set()
    assert [frame.number for frame in latest] == [10]
    assert latest.dropped == 9


@pytest.mark.parametrize("fault", [FacetError("UNREADABLE", "unplugged"), MemoryError("unplugged")])
def test_the_error_of_a_camera_is_raised(fault: Exception) -> None:
    """Where the next frame is taken."""

    def stand_in_camera() -> Iterator[Frame]:
        yield Frame(0, 0.0, None)
        raise fault

    latest = LatestFrame(stand_in_camera())
    with pytest.raises(type(fault), match="unplugged"):
        list(latest)


def test_a_drawn_video_keeps_the_times_of_its_frames(tmp_path: Path) -> None:
    """Its name chooses the format."""
    path = tmp_path / "drawn.webm"
    with DrawnVideo(path) as video:
        for number, seconds in enumerate((0.0, 0.5, 2.0)):
            video.write(Frame(number, seconds, None), encode(Image.new("RGB", (64, 48))))
    with av.open(str(path)) as container:
        assert "webm" in container.format.name
        assert [frame.time for frame in container.decode(video=0)] == pytest.approx([0.0, 0.5, 2.0], abs=0.01)
