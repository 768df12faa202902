"""Decoding: the accepted formats, the pixels, and the errors for everything else."""

import io
import struct
import zlib

import numpy as np
import pytest
from inference.imaging.decode import ImageLimits, decode
from inference.imaging.errors import EmptyImage, ImageError, ImageTooLarge, InvalidImage, UnsupportedFormat
from PIL import Image

from tests.conftest import encode
from tests.crafted_images import chunk, many_parts, pixel, png, png_header, scans_of

LIMITS = ImageLimits(max_bytes=10 * 1024 * 1024, max_pixels=40_000_000, max_side=16384)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_the_accepted_formats_are_decoded_to_rgb(face: Image.Image, form: str) -> None:
    """The pixels are (height, width, 3) uint8, close to the original."""
    decoded = decode(encode(face, form, quality=95), LIMITS)
    assert decoded.pixels.shape == (face.height, face.width, 3)
    assert decoded.pixels.dtype == np.uint8
    assert np.abs(decoded.pixels.astype(int) - np.asarray(face)).mean() < 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_undone(face: Image.Image, orientation: int) -> None:
    """The pixels are upright, and the orientation that was undone is known."""
    undo = {
        1: lambda image: image,
        2: lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda image: image.rotate(180),
        4: lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda image: image.transpose(Image.Transpose.TRANSPOSE),
        6: lambda image: image.rotate(90, expand=True),
        7: lambda image: image.transpose(Image.Transpose.TRANSVERSE),
        8: lambda image: image.rotate(-90, expand=True),
    }
    stored = undo[orientation](face)
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decode(encode(stored, exif=exif), LIMITS)
    assert np.array_equal(decoded.pixels, np.asarray(face))
    assert decoded.orientation == orientation


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_invalid_orientation_is_ignored(face: Image.Image, orientation: int) -> None:
    """The image is decoded as if it had none."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decode(encode(face, exif=exif), LIMITS)
    assert np.array_equal(decoded.pixels, np.asarray(face))
    assert decoded.orientation == 1


@pytest.mark.parametrize(("kind", "value"), [(3, struct.pack(">HH", 6, 0)), (11, struct.pack(">f", 6.0))])
def test_an_orientation_of_another_number_type_is_read(face: Image.Image, kind: int, value: bytes) -> None:
    """The standard says SHORT. A FLOAT is read as a whole number."""
    tiff = b"MM\0*" + struct.pack(">IHHHI", 8, 1, 0x0112, kind, 1) + value + bytes(4)
    decoded = decode(encode(face, "JPEG", exif=b"Exif\0\0" + tiff), LIMITS)
    assert decoded.pixels.shape == (107, 120, 3)
    assert (decoded.orientation, type(decoded.orientation)) == (6, int)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_is_ignored(face: Image.Image) -> None:
    """The image is decoded as if it had none."""
    decoded = decode(encode(face, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"), LIMITS)
    assert decoded.pixels.shape == (face.height, face.width, 3)


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    """Pillow's own conversion makes every value above 255 white."""
    gray = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    decoded = decode(encode(Image.fromarray(gray)), LIMITS)
    assert np.array_equal(decoded.pixels[..., 0], gray >> 8)


def test_transparency_is_shown_over_white() -> None:
    """Invisible pixels must not become black, or the color that is stored in them."""
    image = Image.new("RGBA", (32, 32), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 16, 32))
    decoded = decode(encode(image), LIMITS)
    assert tuple(decoded.pixels[0, 31]) == (255, 255, 255)
    assert tuple(decoded.pixels[0, 0]) == (0, 0, 255)


def test_a_palette_with_a_transparent_color_is_shown_over_white() -> None:
    """An indexed PNG is handled like one with an alpha channel."""
    image = Image.new("P", (16, 16), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    image.paste(0, (0, 0, 8, 16))
    decoded = decode(encode(image, transparency=0), LIMITS)
    assert tuple(decoded.pixels[0, 0]) == (255, 255, 255)
    assert tuple(decoded.pixels[0, 15]) == (10, 200, 30)


@pytest.mark.parametrize(("mode", "form"), [("L", "PNG"), ("LA", "PNG"), ("P", "PNG"), ("CMYK", "JPEG")])
def test_other_modes_look_as_a_viewer_shows_them(face: Image.Image, mode: str, form: str) -> None:
    """Gray, gray with alpha, palette and CMYK keep the look of the image."""
    decoded = decode(encode(face.convert(mode), form), LIMITS)
    assert decoded.pixels.shape == (120, 107, 3)
    assert np.corrcoef(decoded.pixels.mean(axis=2).ravel(), np.asarray(face.convert("L")).ravel())[0, 1] > 0.98


def test_one_bit_is_black_and_white() -> None:
    """The values are 0 and 255, not 0 and 1."""
    image = Image.new("1", (16, 16))
    image.paste(1, (8, 0, 16, 16))
    row = decode(encode(image), LIMITS).pixels[0]
    assert (tuple(row[0]), tuple(row[15])) == ((0, 0, 0), (255, 255, 255))


def test_the_first_of_several_frames_is_decoded(face: Image.Image) -> None:
    """MPO, animated PNG and animated WebP are accepted."""
    black = Image.new("RGB", face.size)
    for form in ("MPO", "PNG", "WEBP"):
        data = encode(face, form, save_all=True, append_images=[black])
        assert np.abs(decode(data, LIMITS).pixels.astype(int) - np.asarray(face)).mean() < 8, form


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", EmptyImage),
        (b"hello, I am called photo.jpg", InvalidImage),
        (b"\xff\xd8\xff\xe0 only a beginning", InvalidImage),
        (png_header(20000, 20000), ImageTooLarge),
        (png_header(65000, 1), ImageTooLarge),
        (png_header(1, 16385), ImageTooLarge),
        (png_header(100, 100), InvalidImage),
        (
            png(chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 3, 0, 0, 0)), pixel),
            InvalidImage,
        ),  # no palette
        (b"\0" * (LIMITS.max_bytes + 1), ImageTooLarge),
        (b"%PDF-1.7", UnsupportedFormat),
        (b"\0\0\0\x1cftypavif", UnsupportedFormat),
        (b"\0\0\0\x18ftypheic", UnsupportedFormat),
    ],
)
def test_each_kind_of_bad_image_has_its_own_error(data: bytes, error: type[ImageError]) -> None:
    """None of them is decoded to an empty image."""
    with pytest.raises(error):
        decode(data, LIMITS)


@pytest.mark.parametrize("form", ["GIF", "TIFF", "BMP"])
def test_another_format_is_named(face: Image.Image, form: str) -> None:
    """The message names the format that was recognized and those that are accepted."""
    with pytest.raises(UnsupportedFormat, match=f"{form}.*JPEG, PNG or WebP"):
        decode(encode(face, form), LIMITS)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.95])
def test_a_truncated_file_is_refused(astronaut: Image.Image, form: str, part: float) -> None:
    """Part of an image is never examined as if it were complete."""
    data = encode(astronaut, form)
    with pytest.raises(InvalidImage):
        decode(data[: int(part * len(data))], LIMITS)


def test_an_image_at_the_limits_is_accepted() -> None:
    """One pixel more per side, or more pixels in total, are refused."""
    limits = ImageLimits(max_bytes=10**6, max_pixels=10_000, max_side=200)
    assert decode(encode(Image.new("L", (200, 50))), limits).pixels.shape[1] == 200
    for size in ((201, 1), (101, 100)):
        with pytest.raises(ImageTooLarge, match=f"{size[0]} x {size[1]}"):
            decode(encode(Image.new("L", size)), limits)


@pytest.mark.parametrize("step", ["PIL.Image.open", "PIL.Image.Image.convert"])
def test_a_lack_of_memory_is_not_blamed_on_the_image(
    face_file: bytes, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """MemoryError is a fault of the service and passes through."""

    def exhausted(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(step, exhausted)
    with pytest.raises(MemoryError):
        decode(face_file, LIMITS)


@pytest.mark.parametrize("data", many_parts().values(), ids=many_parts())
def test_an_image_of_a_million_parts_is_not_read_to_its_end(data: bytes) -> None:
    """Each part costs a read, however few bytes it has."""
    with pytest.raises(InvalidImage, match="too many parts"):
        decode(data, LIMITS)


@pytest.mark.parametrize(
    "between",
    [b"", b"\xff\xfe\0\4\xff\xd9", b"\xff\1\xff\xff", b"\xff\xd0"],
    ids=["alone", "an end in a comment", "a marker that stands alone", "a restart"],
)
def test_the_scans_of_a_jpeg_are_limited(face: Image.Image, between: bytes) -> None:
    """Fifty scans are decoded. One more is refused, even if it is hidden."""
    progressive = encode(face.convert("L"), "JPEG", progressive=True)
    assert decode(scans_of(progressive, 50, between), LIMITS).pixels.shape[1] == face.width
    with pytest.raises(InvalidImage, match="more than 50 scans"):
        decode(scans_of(progressive, 51, between), LIMITS)


def test_the_bytes_after_a_jpeg_are_ignored(face: Image.Image) -> None:
    """Phones append a video, in which any sequence of bytes can occur."""
    assert decode(encode(face, "JPEG") + b"\xff\xda\0\2" * 2000, LIMITS).pixels.shape[1] == face.width


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_a_text_that_expands_is_not_decompressed(face_file: bytes, kind: bytes) -> None:
    """A megabyte of it could expand to gigabytes."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(2**20)) for _ in range(256)) + packer.flush()
    text = b"k\0\1\0\0\0" if kind == b"iTXt" else b"k\0\0"
    with pytest.raises(InvalidImage):
        decode(face_file[:33] + chunk(kind, text + packed) + face_file[33:], LIMITS)


def test_other_decoders_never_see_the_bytes(face: Image.Image) -> None:
    """Pillow's plug-ins for formats that are not accepted do not open the file."""
    file = io.BytesIO()
    face.save(file, "PPM")
    with pytest.raises(InvalidImage):
        decode(file.getvalue(), LIMITS)
