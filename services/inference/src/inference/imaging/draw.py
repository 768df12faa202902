"""Draws or blurs the faces in an image and encodes it."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from inference.imaging.decode import DecodedImage
from inference.imaging.errors import ImageTooLarge
from inference.mtcnn.detector import Box, Face

# A bright line between dark ones is visible on any background.
BRIGHT, DARK = (64, 224, 255), (16, 24, 32)
# Width of a line: a share of the image's shorter side, to stay visible when a large image is scaled down, and at most a
# share of the face's shorter side, so that the face stays visible.
LINE_SHARE = 1 / 250
FACE_SHARE = 1 / 24
DOT_SHARE = 1 / 40  # radius of a landmark, as a share of the face's shorter side
# Size of the text: a share of the image's shorter side, at most a share of the face's width, at least SMALLEST_TEXT.
TEXT_SHARE = 1 / 32
FACE_TEXT_SHARE = 1 / 4
SMALLEST_TEXT = 10  # pixels
BLUR_MARGIN = 0.15  # of the box on each side, for hair, ears and chin
# A blurred face is scaled down to this many cells per side, and a small face to a quarter of its pixels per side.
BLUR_CELLS = 6
JPEG_QUALITY = 90
PNG_COMPRESSION = 1  # the fastest

Corners = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class DrawOptions:
    """How to draw and encode: blurred faces instead of boxes, PNG instead of JPEG, confidences beside the boxes."""

    blur: bool = False
    png: bool = False
    labels: bool = True


def draw(decoded: DecodedImage, faces: Sequence[Face], options: DrawOptions, max_bytes: int) -> bytes:
    """Give the upright image with its faces drawn or blurred, as a JPEG or PNG file.

    The file keeps the ICC profile and no other metadata. Raises ImageTooLarge if it would exceed `max_bytes`.
    """
    image = Image.fromarray(decoded.pixels)
    if options.blur:
        for face in faces:
            _blur(image, _corners(face.box))
    else:
        _boxes(image, faces, labels=options.labels)
    file = _BoundedFile(max_bytes)
    profile = decoded.icc_profile or None
    if options.png:
        image.save(file, "PNG", compress_level=PNG_COMPRESSION, icc_profile=profile)
    else:
        image.save(file, "JPEG", quality=JPEG_QUALITY, icc_profile=profile)
    return file.getvalue()


class _BoundedFile(io.BytesIO):
    """A file in memory that refuses to grow beyond `max_bytes`."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self._max_bytes = max_bytes

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        if self.tell() + len(data) > self._max_bytes:
            raise ImageTooLarge(
                f"the drawn image would have more than {self._max_bytes} bytes; send a smaller image, or ask for JPEG"
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
            for size, color in ((radius + line / 2, DARK), (radius, BRIGHT)):
                canvas.ellipse(_grown((point.x, point.y, point.x, point.y), size), fill=color)
    if labels:  # last, so that no box covers a label
        for face in faces:
            _label(canvas, image, face)


def _label(canvas: ImageDraw.ImageDraw, image: Image.Image, face: Face) -> None:
    """Write the confidence above the box, or inside it at the top edge of the image; always within the image."""
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
    """Replace a face and its surroundings with a few smooth patches."""
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
    """Give left, top, right, bottom, sorted because the regression can swap the corners of a box."""
    left, right = sorted((box.up_left.x, box.lower_right.x))
    top, bottom = sorted((box.up_left.y, box.lower_right.y))
    return left, top, right, bottom


def _grown(corners: Corners, by: float) -> Corners:
    return corners[0] - by, corners[1] - by, corners[2] + by, corners[3] + by
