"""Reads frames from a video or a camera, and writes drawn frames to a video or a folder."""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

from facet.closing import Closing
from facet.command.output import write_atomically
from facet.errors import FacetError

try:
    import av
    from PIL import Image
except ModuleNotFoundError as error:
    raise ImportError(f"videos need {error.name}: pip install './client[video]' in a clone of facet") from error

JPEG_QUALITY = 90  # the detector does not notice the loss
CAMERA = "/dev/video"
MILLISECOND = Fraction(1, 1000)
USUAL_RATE = Fraction(25)  # for a source without times and without a rate


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: its number and time in the video, and its pixels."""

    number: int
    seconds: float
    pixels: Any  # a frame of PyAV, some of whose methods have no types

    def jpeg(self) -> bytes:
        """Return the upright frame as a JPEG file."""
        image = self.pixels.to_image()
        if self.pixels.rotation:
            image = image.rotate(self.pixels.rotation, expand=True)
        file = io.BytesIO()
        image.save(file, "JPEG", quality=JPEG_QUALITY)
        return file.getvalue()


class Video:
    """The frames of a source: all, every Nth, or `fps` per second of the video's own time.

    A source is live when it does not wait for its reader: a camera, a pipe, an address. Every method may raise
    FacetError with the code UNREADABLE.
    """

    def __init__(self, source: str, *, every: int = 1, fps: float | None = None) -> None:
        self._source = source
        self._every = every
        self._fps = fps
        self.live = not Path(source).is_file()

    def count(self) -> int | None:
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
                for number, pixels in enumerate(container.decode(stream)):
                    seconds = float(number / rate if pixels.time is None else pixels.time)
                    if number % self._every or seconds < due:
                        continue
                    if self._fps:
                        due = max(due, seconds - 1 / self._fps) + 1 / self._fps
                    yield Frame(number, seconds, pixels)
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


class LatestFrame(Iterator[Frame]):
    """Yields the latest frame of a live source, and drops the frames before it."""

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
        except Exception as error:  # noqa: BLE001 - raised where the next frame is awaited
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


class DrawnVideo(Closing):
    """A video of drawn frames at their own times; its name chooses the format. Raises FacetError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with _writing(path):
            self._container = av.open(path, "w")
        self._stream: av.VideoStream | None = None

    def close(self) -> None:
        with _writing(self._path), self._container:
            if self._stream:
                self._container.mux(self._stream.encode())

    def write(self, frame: Frame, drawn: bytes) -> None:
        with Image.open(io.BytesIO(drawn)) as image:
            pixels = av.VideoFrame.from_image(image)  # type: ignore[no-untyped-call]
        with _writing(self._path):
            stream = self._stream = self._stream or self._stream_for(pixels)
            pixels = pixels.reformat(width=stream.width, height=stream.height, format="yuv420p")
            pixels.pts, pixels.time_base = round(1000 * frame.seconds), MILLISECOND
            self._container.mux(stream.encode(pixels))

    def _stream_for(self, pixels: av.VideoFrame) -> av.VideoStream:
        stream = cast("av.VideoStream", self._container.add_stream(self._container.default_video_codec))
        # yuv420p stores one color for 2 x 2 pixels, so both sides must be even.
        stream.width, stream.height = pixels.width // 2 * 2, pixels.height // 2 * 2
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = MILLISECOND
        return stream


class DrawnFrames(Closing):
    """A folder of drawn frames, as JPEG files. Raises FacetError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, frame: Frame, drawn: bytes) -> None:
        path = self._folder / f"frame-{frame.number:06}.jpg"
        with _writing(path):
            write_atomically(path, drawn)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn what cannot be written into a FacetError."""
    try:
        yield
    except (av.FFmpegError, OSError, ValueError) as error:  # ValueError for a format without video
        raise FacetError("UNWRITABLE", f"{path}: {getattr(error, 'strerror', None) or error}") from error


def drawn_to(out: Path) -> DrawnVideo | DrawnFrames:
    """Return a video or a folder, chosen by the name."""
    return DrawnVideo(out) if out.suffix else DrawnFrames(out)
