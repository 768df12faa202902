"""Decodes the received bytes to upright RGB pixels. Each limit is checked before the work that it bounds."""

import io
import re
from dataclasses import dataclass

import numpy as np
from PIL import Image, JpegImagePlugin, MpoImagePlugin, PngImagePlugin, UnidentifiedImageError, WebPImagePlugin

from inference.imaging.errors import EmptyImage, ImageTooLarge, InvalidImage, UnsupportedFormat
from inference.mtcnn.detector import RGB

ACCEPTED = "JPEG, PNG or WebP"
# Untrusted bytes reach only these decoders of Pillow's three dozen. The JPEG decoder also opens MPO, a JPEG followed by
# further images (stereo cameras, many phones); the first image counts.
DECODERS = ("JPEG", "PNG", "WEBP")
# Imported here, because Pillow would otherwise import all of its decoders while the first request waits.
_PLUGINS = (JpegImagePlugin, MpoImagePlugin, PngImagePlugin, WebPImagePlugin)
# The signatures of other formats, (offset, bytes), so that the error can name the format.
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

# Pillow's own limit only warns. `_check_size` replaces it, right after the header is read.
Image.MAX_IMAGE_PIXELS = None

# A file can consist of a million parts of a few bytes, which Pillow reads one by one. A PNG of 10 MiB in parts of 1 KiB
# takes 40,000 reads; a camera's file takes a few hundred.
MAX_READS = 50_000
# The decoder passes over the whole image for each scan of a progressive JPEG, and a scan can be as short as 17 bytes: a
# megabyte of scans took minutes. Encoders write about 10 scans, or 20 for CMYK.
MAX_SCANS = 50
MAX_SEGMENTS = 1000  # of a JPEG, which are its scans, their tables and metadata
# The marker that begins a segment. The excluded markers have no segment: a stuffed 0, TEM, RST0 to RST7, SOI and fill
# bytes (ITU-T T.81, table B.1).
SEGMENT = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
START_OF_SCAN, END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"

MAX_PROFILE = 64 * 1024  # bytes; the ICC profiles of cameras and phones have a few hundred to a few thousand

# The operation that undoes each EXIF orientation (CIPA DC-008, tag 0x0112). 1 is upright.
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
    """The largest accepted image: bytes as received, pixels in total, and pixels per side."""

    max_bytes: int
    max_pixels: int
    max_side: int


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """An upright image: `pixels` (height, width, 3) uint8 RGB, and the EXIF orientation that was undone (1: none).

    `icc_profile` is the file's ICC color profile; empty if it has none that fits RGB.
    """

    pixels: RGB
    orientation: int
    icc_profile: bytes = b""


class _File(io.BytesIO):
    """A file in memory that allows at most MAX_READS reads."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > MAX_READS:
            raise InvalidImage("the image consists of too many parts; save it in another way")
        return super().read(size)


def decode(data: bytes, limits: ImageLimits) -> DecodedImage:
    """Decode the first frame of a JPEG, PNG or WebP file and turn it upright.

    Raises EmptyImage, ImageTooLarge, UnsupportedFormat or InvalidImage, and MemoryError if this process runs out of it.
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
        profile = image.info.get("icc_profile") if image.mode == "RGB" else None  # a gray profile does not fit RGB
        image = _to_rgb(image)
    except (MemoryError, InvalidImage):
        raise
    # On hostile bytes Pillow raises nearly anything: OSError, SyntaxError, AssertionError, struct.error, ...
    except Exception as error:
        raise InvalidImage("the image is damaged or truncated and cannot be decoded; send the complete file") from error
    if orientation in UPRIGHT:
        image = image.transpose(UPRIGHT[orientation])
    return DecodedImage(np.asarray(image), orientation, profile if profile and len(profile) <= MAX_PROFILE else b"")


def _open(data: bytes) -> Image.Image:
    """Read the header and nothing else."""
    for name, (offset, magic) in OTHER_FORMATS.items():
        if data.startswith(magic, offset):
            raise UnsupportedFormat(f"{name} is not accepted; send {ACCEPTED}")
    try:
        return Image.open(_File(data), formats=DECODERS)
    except UnidentifiedImageError as error:
        raise InvalidImage(f"the bytes are not an image in a known format; send a {ACCEPTED} file") from error
    except (MemoryError, InvalidImage):
        raise
    except Exception as error:
        raise InvalidImage("the image's header is damaged; send the complete file") from error


def _check_size(image: Image.Image, limits: ImageLimits) -> None:
    width, height = image.size
    if max(width, height) > limits.max_side or width * height > limits.max_pixels:
        raise ImageTooLarge(
            f"the image is {width} x {height} pixels; the limits are {limits.max_side} per side and "
            f"{limits.max_pixels} in total; scale it down"
        )


def _check_scans(data: bytes) -> None:
    """Count the scans of a JPEG, going from segment to segment as a decoder does so that no segment hides another."""
    scans = position = 0
    for _ in range(MAX_SEGMENTS):
        found = SEGMENT.search(data, position)
        if not found or found[0] == END_OF_IMAGE:
            return
        scans += found[0] == START_OF_SCAN
        if scans > MAX_SCANS:
            break
        position = found.end() + int.from_bytes(data[found.end() : found.end() + 2])
    raise InvalidImage(f"the JPEG has more than {MAX_SCANS} scans or too many parts; save it in another way")


def _orientation(image: Image.Image) -> int:
    """Give the EXIF orientation, or 1 if it is missing or invalid."""
    try:
        orientation = image.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001 - broken EXIF raises nearly anything; the image is still good
        return 1
    return int(orientation) if orientation in UPRIGHT else 1  # the value can be a float such as 6.0


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to 8-bit RGB as a viewer shows it: transparency over white, 16 bits scaled and not clipped."""
    if image.mode.startswith("I"):
        gray = np.asarray(image).astype(np.int64).clip(0, 0xFFFF) >> 8
        return Image.fromarray(gray.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")
