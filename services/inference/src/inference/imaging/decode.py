"""From the received bytes to an upright RGB picture: every limit is checked before the work it guards is begun."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

import numpy as np
from PIL import Image, JpegImagePlugin, MpoImagePlugin, PngImagePlugin, UnidentifiedImageError, WebPImagePlugin

from inference.mtcnn.detector import RGB
from inference.rpc.errors import EmptyImage, ImageTooLarge, InvalidImage, UnsupportedFormat

ACCEPTED = "JPEG, PNG or WebP"
# Only these decoders of Pillow's three dozen ever see a stranger's bytes. The JPEG one also opens MPO, a JPEG with more
# pictures behind the first (stereo cameras, many telephones); the first one counts.
DECODERS = ("JPEG", "PNG", "WEBP")
# Imported with this module, or the first picture would wait while Pillow imports all of its decoders.
_PLUGINS = (JpegImagePlugin, MpoImagePlugin, PngImagePlugin, WebPImagePlugin)
# How others begin, (offset, bytes): told apart only to say more than "cannot be recognised".
OTHER_FORMATS = {
    "GIF": (0, b"GIF8"),
    "TIFF": (0, b"II*\x00"),
    "TIFF (big-endian)": (0, b"MM\x00*"),
    "BMP": (0, b"BM"),
    "PDF": (0, b"%PDF"),
    "AVIF": (4, b"ftypavif"),
    "HEIC": (4, b"ftyphei"),
    "HEIF": (4, b"ftypmif1"),
    "JPEG 2000": (0, b"\x00\x00\x00\x0cjP  "),
    "JPEG XL": (0, b"\x00\x00\x00\x0cJXL "),
    "SVG": (0, b"<svg"),
}

# Pillow only warns above its own limit; ours is checked right after the header is read, and holds for every format.
Image.MAX_IMAGE_PIXELS = None

# A file may consist of a million parts of a few bytes each, and Pillow reads them one by one. A PNG of 10 MiB in pieces
# of 1 KiB takes 40,000 reads; what cameras write takes a few hundred.
MAX_READS = 50_000
# A progressive JPEG goes over the whole picture once for each scan, which may be as short as 17 bytes: a megabyte of
# them took minutes. Encoders write about ten, and twice as many for CMYK.
MAX_SCANS = 50
MAX_SEGMENTS = 1000  # of a JPEG: its scans, their tables and the rest
# How a segment begins. What is left out stands alone: a 0 stuffed into a scan, TEM, SOI, restarts and fill bytes.
SEGMENT = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
START_OF_SCAN, END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"

MAX_PROFILE = 64 * 1024  # bytes; those of cameras and telephones have a few hundred to a few thousand

# What undoes each EXIF orientation (CIPA DC-008, tag 0x0112). 1 is upright.
ORIENTATION_TAG = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """The largest picture that is examined: bytes as received, pixels in all, pixels a side."""

    max_bytes: int
    max_pixels: int
    max_side: int


@dataclass(frozen=True, slots=True)
class Picture:
    """An upright picture, (height, width, 3) uint8 RGB, and the EXIF orientation that was undone (1: none).

    `icc_profile` says which colours the numbers mean; empty: those of sRGB, or nobody knows.
    """

    rgb: RGB
    orientation: int
    icc_profile: bytes = b""

    @property
    def width(self) -> int:
        """Pixels."""
        return int(self.rgb.shape[1])

    @property
    def height(self) -> int:
        """Pixels."""
        return int(self.rgb.shape[0])


class _File(io.BytesIO):
    """The bytes of an image, which can be read only so often."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > MAX_READS:
            raise InvalidImage("the image consists of too many parts; save it anew")
        return super().read(size)


def decode(data: bytes, limits: ImageLimits) -> Picture:
    """Decode a JPEG, PNG or WebP; of several frames the first.

    Raises EmptyImage, ImageTooLarge, UnsupportedFormat or InvalidImage, each with a sentence for the sender.
    """
    if not data:
        raise EmptyImage(f"the image is empty; send the bytes of a {ACCEPTED} file")
    if len(data) > limits.max_bytes:
        raise ImageTooLarge(f"the image has {len(data)} bytes, the limit is {limits.max_bytes}; send a smaller one")
    image = _open(data)
    _check_size(image, limits)
    if image.format in ("JPEG", "MPO"):
        _check_scans(data)
    try:
        image.load()
        orientation = _orientation(image)
        profile = image.info.get("icc_profile") if image.mode == "RGB" else None  # another mode's would no longer fit
        image = _to_rgb(image)
    except (MemoryError, InvalidImage):
        raise  # the one is not the sender's fault, the other is ours to say
    # Pillow raises nearly anything on hostile bytes (OSError, SyntaxError, AssertionError, struct.error, ...).
    except Exception as error:
        raise InvalidImage("the image is damaged or cut short and cannot be decoded; send the whole file") from error
    if orientation in UPRIGHT:
        image = image.transpose(UPRIGHT[orientation])
    return Picture(np.asarray(image), orientation, profile if profile and len(profile) <= MAX_PROFILE else b"")


def _open(data: bytes) -> Image.Image:
    """Read the header alone."""
    for name, (offset, magic) in OTHER_FORMATS.items():
        if data.startswith(magic, offset):
            raise UnsupportedFormat(f"{name} is not accepted; send {ACCEPTED}")
    try:
        return Image.open(_File(data), formats=DECODERS)
    except UnidentifiedImageError as error:
        raise InvalidImage(f"the data is no image that can be recognised; send a {ACCEPTED} file") from error
    except (MemoryError, InvalidImage):
        raise
    except Exception as error:
        raise InvalidImage("the image's header is damaged; send the whole file") from error


def _check_size(image: Image.Image, limits: ImageLimits) -> None:
    width, height = image.size
    if max(width, height) > limits.max_side or width * height > limits.max_pixels:
        raise ImageTooLarge(
            f"the image is {width} x {height} pixels; at most {limits.max_side} a side and {limits.max_pixels} in all "
            "are accepted: scale it down"
        )


def _check_scans(data: bytes) -> None:
    """Go from segment to segment as a decoder does, so that none can hide the next, and count the scans."""
    scans = position = 0
    for _ in range(MAX_SEGMENTS):
        found = SEGMENT.search(data, position)
        if not found or found[0] == END_OF_IMAGE:
            return
        scans += found[0] == START_OF_SCAN
        if scans > MAX_SCANS:
            break
        position = found.end() + int.from_bytes(data[found.end() : found.end() + 2])
    raise InvalidImage(f"the JPEG has more than {MAX_SCANS} scans or is in too many parts; save it anew")


def _orientation(image: Image.Image) -> int:
    """Read the EXIF orientation, 1 where there is none or where it makes no sense."""
    try:
        orientation = image.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001 - broken EXIF raises nearly anything, and spoils no picture
        return 1
    return int(orientation) if orientation in UPRIGHT else 1  # 6.0 is in it, too


def _to_rgb(image: Image.Image) -> Image.Image:
    """Bring any mode to 8-bit RGB as a viewer would show it: transparency over white, 16 bits scaled, not clipped."""
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.int64).clip(0, 0xFFFF) >> 8
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")
    return image.convert("RGB")
