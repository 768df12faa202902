"""Draws faces on a picture, or blurs them, and encodes it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from inference.imaging.decode import Picture
from inference.mtcnn.detector import Box, Face, Point
from inference.rpc.errors import ImageTooLarge

# Bright on a dark edge is seen on any background.
BRIGHT, DARK = (64, 224, 255), (16, 24, 32)
LINE_SHARE = 1 / 250  # of the picture's shorter side, so that a large picture can be shown small,
FACE_SHARE = 1 / 24  # but never more of a face's shorter side, or nothing of the face is left to see
DOT_SHARE = 1 / 40  # of a face's shorter side
TEXT_SHARE = 1 / 32  # of the picture's shorter side,
FACE_TEXT_SHARE = 1 / 4  # but never more of a face's width,
SMALLEST_TEXT = 10  # nor less than what can be read
BLUR_MARGIN = 0.15  # of the box, on each side: hair, ears and chin
BLUR_CELLS = 6  # a side is what is left of a face; of a small one, a quarter of its pixels a side
JPEG_QUALITY = 90
PNG_COMPRESSION = 1  # the fastest

Corners = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class DrawOptions:
    """What to draw and how to encode it."""

    blur: bool = False
    png: bool = False
    labels: bool = True


def draw(picture: Picture, faces: Sequence[Face], options: DrawOptions, max_bytes: int) -> bytes:
    """Give the upright picture with its faces drawn or blurred, as a JPEG or PNG file; of metadata, with its colours'.

    Raises ImageTooLarge when the file would have more than `max_bytes`.
    """
    image = Image.fromarray(picture.rgb)
    if options.blur:
        for face in faces:
            _blur(image, _corners(face.box))
    else:
        _boxes(image, faces, labels=options.labels)
    file = _BoundedFile(max_bytes)
    profile = picture.icc_profile or None
    if options.png:
        image.save(file, "PNG", compress_level=PNG_COMPRESSION, icc_profile=profile)
    else:
        image.save(file, "JPEG", quality=JPEG_QUALITY, icc_profile=profile)
    return file.getvalue()


class _BoundedFile(io.BytesIO):
    """A file in memory that is given up as soon as it would be too long."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self._max_bytes = max_bytes

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        if self.tell() + len(data) > self._max_bytes:
            raise ImageTooLarge(
                f"the drawn picture would have more than {self._max_bytes} bytes; send a smaller one, or ask for JPEG"
            )
        return super().write(data)


def _boxes(image: Image.Image, faces: Sequence[Face], *, labels: bool) -> None:
    canvas = ImageDraw.Draw(image)
    for face in faces:
        corners, marks = _corners(face.box), face.landmarks
        line = _line(image, corners)
        canvas.rectangle(_grown(corners, line), outline=DARK, width=3 * line)
        canvas.rectangle(corners, outline=BRIGHT, width=line)
        radius = max(line / 2, _side(corners) * DOT_SHARE)
        for point in (marks.left_eye, marks.right_eye, marks.nose, marks.mouth_left, marks.mouth_right):
            for size, colour in ((radius + line / 2, DARK), (radius, BRIGHT)):
                canvas.ellipse(_grown((point.x, point.y, point.x, point.y), size), fill=colour)
    if labels:  # over all boxes
        for face in faces:
            _label(canvas, image, face)


def _label(canvas: ImageDraw.ImageDraw, image: Image.Image, face: Face) -> None:
    """Write the confidence above the box, or within it where there is no room above; never beyond the picture."""
    corners = _corners(face.box)
    size = min(min(image.size) * TEXT_SHARE, (corners[2] - corners[0]) * FACE_TEXT_SHARE)
    font = ImageFont.load_default(max(SMALLEST_TEXT, size))
    text, space = f"{100 * face.confidence:.1f} %", 2 * _line(image, corners)
    left, top, right, bottom = canvas.textbbox((0, 0), text, font=font)
    width, height = right - left + 2 * space, bottom - top + 2 * space
    x = max(0.0, min(corners[0], image.width - width))
    y = corners[1] - height if corners[1] >= height else max(0.0, min(corners[1], image.height - height))
    canvas.rectangle((x, y, x + width - 1, y + height - 1), fill=DARK)
    canvas.text((x + space - left, y + space - top), text, fill=BRIGHT, font=font)


def _blur(image: Image.Image, corners: Corners) -> None:
    """Replace a face and what is around it by a few smooth patches."""
    left, top, right, bottom = corners
    across, down = BLUR_MARGIN * (right - left), BLUR_MARGIN * (bottom - top)
    region = (
        max(0, round(left - across)),
        max(0, round(top - down)),
        min(image.width, round(right + across) + 1),
        min(image.height, round(bottom + down) + 1),
    )
    face = image.crop(region)
    cells = face.resize([max(1, min(BLUR_CELLS, side // 4)) for side in face.size], Image.Resampling.BOX)
    image.paste(cells.resize(face.size, Image.Resampling.BICUBIC), region[:2])


def _line(image: Image.Image, corners: Corners) -> int:
    return max(1, round(min(min(image.size) * LINE_SHARE, _side(corners) * FACE_SHARE)))


def _side(corners: Corners) -> float:
    return min(corners[2] - corners[0], corners[3] - corners[1])


def _corners(box: Box) -> Corners:
    """Give left, top, right, bottom, also of a box that a network has turned inside out."""
    first: Point = box.up_left
    second: Point = box.lower_right
    (left, right), (top, bottom) = sorted((first.x, second.x)), sorted((first.y, second.y))
    return left, top, right, bottom


def _grown(corners: Corners, by: float) -> Corners:
    return corners[0] - by, corners[1] - by, corners[2] + by, corners[3] + by
