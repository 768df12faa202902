"""Frames out of a video or a camera, and drawn ones into a video or a folder."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Self, cast

from facet.command.output import write_whole
from facet.errors import FacetError

try:
    import av
    from PIL import Image
except ModuleNotFoundError as error:
    raise ImportError(f"videos need {error.name}: pip install './client[video]' in a clone of facet") from error

JPEG_QUALITY = 90  # what is lost is below what the detector sees
CAMERA = "/dev/video"
MILLISECOND = Fraction(1, 1000)
USUAL_RATE = Fraction(25)  # of a source that says neither when its frames are nor how many a second


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: its number and time in the video, and its picture."""

    number: int
    seconds: float
    picture: Any  # of PyAV, some of whose methods have no types

    def jpeg(self) -> bytes:
        """Give it upright, as a JPEG file."""
        image = self.picture.to_image()
        if self.picture.rotation:
            image = image.rotate(self.picture.rotation, expand=True)
        file = io.BytesIO()
        image.save(file, "JPEG", quality=JPEG_QUALITY)
        return file.getvalue()


class Video:
    """The frames of a source, or a choice of them: every so manyeth, or so many a second of the video's own time.

    A source is live when its frames come by themselves: a camera, a pipe, an address. All may raise FacetError with the
    code UNREADABLE.
    """

    def __init__(self, source: str, *, every: int = 1, fps: float | None = None) -> None:
        self._source = source
        self._every = every
        self._fps = fps
        self.live = not Path(source).is_file()

    def count(self) -> int | None:
        """Say how many frames there will be, None when nobody knows."""
        if self.live or self._fps:
            return None
        with self._opened() as container:
            return -(-container.streams.video[0].frames // self._every) or None

    def __iter__(self) -> Iterator[Frame]:
        due = 0.0
        try:
            with self._opened() as container:
                stream = container.streams.video[0]
                rate = stream.average_rate or USUAL_RATE  # for frames without a time
                for number, picture in enumerate(container.decode(stream)):
                    seconds = float(number / rate if picture.time is None else picture.time)
                    if number % self._every or seconds < due:
                        continue
                    if self._fps:
                        due = max(due, seconds - 1 / self._fps) + 1 / self._fps
                    yield Frame(number, seconds, picture)
        except av.FFmpegError as error:
            raise FacetError("UNREADABLE", f"{self._source}: {error.strerror}") from error

    def _opened(self) -> av.container.InputContainer:
        try:
            container = av.open(self._source, format="v4l2" if self._source.startswith(CAMERA) else None)
        except (av.FFmpegError, OSError) as error:
            raise FacetError("UNREADABLE", f"{self._source}: {error.strerror}") from error
        if not container.streams.video:
            container.close()
            raise FacetError("UNREADABLE", f"{self._source}: there is no video in it")
        return container


class Newest(Iterator[Frame]):
    """Of frames that come by themselves the newest, whenever one is asked for; the others are dropped."""

    def __init__(self, frames: Iterator[Frame]) -> None:
        self.dropped = 0
        self._frames = frames
        self._frame: Frame | None = None
        self._end: Exception | None = None
        self._changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        end: Exception = StopIteration()
        try:
            for frame in self._frames:
                with self._changed:
                    self.dropped += self._frame is not None
                    self._frame = frame
                    self._changed.notify()
        except Exception as error:  # noqa: BLE001 - whatever it is, who asks for a frame waits for it
            end = error
        with self._changed:
            self._end = end
            self._changed.notify()

    def __next__(self) -> Frame:
        with self._changed:
            self._changed.wait_for(lambda: self._frame or self._end)
            frame, self._frame = self._frame, None
        if frame:
            return frame
        raise self._end or StopIteration


class DrawnVideo:
    """A video of drawn frames, each at its own time; its form is what its name says. Raises FacetError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with _writing(path):
            self._container = av.open(path, "w")
        self._stream: av.VideoStream | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with _writing(self._path), self._container:
            if self._stream:
                self._container.mux(self._stream.encode())

    def write(self, frame: Frame, drawn: bytes) -> None:
        """Add a drawn frame."""
        with Image.open(io.BytesIO(drawn)) as image:
            picture = av.VideoFrame.from_image(image)  # type: ignore[no-untyped-call]
        with _writing(self._path):
            stream = self._stream = self._stream or self._stream_for(picture)
            picture = picture.reformat(width=stream.width, height=stream.height, format="yuv420p")
            picture.pts, picture.time_base = round(1000 * frame.seconds), MILLISECOND
            self._container.mux(stream.encode(picture))

    def _stream_for(self, picture: av.VideoFrame) -> av.VideoStream:
        stream = cast("av.VideoStream", self._container.add_stream(self._container.default_video_codec))
        # The usual pixel format has a colour for two pixels a side, so sides are even.
        stream.width, stream.height = picture.width // 2 * 2, picture.height // 2 * 2
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = MILLISECOND
        return stream


class DrawnFrames:
    """A folder of drawn frames, as JPEG files. Raises FacetError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, frame: Frame, drawn: bytes) -> None:
        """Add a drawn frame."""
        path = self._folder / f"frame-{frame.number:06}.jpg"
        with _writing(path):
            write_whole(path, drawn)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Say in our words what a file cannot take."""
    try:
        yield
    except (av.FFmpegError, OSError, ValueError) as error:  # the last one for a form that holds no video
        raise FacetError("UNWRITABLE", f"{path}: {getattr(error, 'strerror', None) or error}") from error


def drawn_to(out: Path) -> DrawnVideo | DrawnFrames:
    """Choose by the name: a video, or a folder."""
    return DrawnVideo(out) if out.suffix else DrawnFrames(out)
