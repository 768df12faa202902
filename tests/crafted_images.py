"""Image files assembled byte by byte, as no encoder would write them."""

import struct
import zlib

from PIL import Image

from tests.conftest import encode


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return one chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks: bytes) -> bytes:
    """Return a PNG with these chunks and an end."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IEND", b"")


def png_header(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes whose header claims this size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return png(chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0" * 9)))


pixel = chunk(b"IDAT", zlib.compress(b"\0\5"))  # one pixel of a palette image


def many_parts() -> dict[str, bytes]:
    """Return images of 16 x 16 pixels with 2 MiB of empty segments or chunks each."""
    jpeg, image = encode(Image.new("L", (16, 16)), "JPEG"), encode(Image.new("L", (16, 16)))
    header = len(png()) - len(chunk(b"IEND", b"")) + len(chunk(b"IHDR", bytes(13)))
    end = image.index(b"IEND") - 4
    size = 2 * 1024 * 1024
    return {
        "JPEG with comments": jpeg[:2] + b"\xff\xfe\0\2" * (size // 4) + jpeg[2:],
        "JPEG with repeated EXIF": jpeg[:2] + b"\xff\xe1\0\x08Exif\0\0" * (size // 10) + jpeg[2:],
        "JPEG with fill bytes": jpeg[:2] + b"\xff" * size + jpeg[2:],
        "JPEG with comments after its scan": jpeg[:-2] + b"\xff\xfe\0\2" * (size // 4) + jpeg[-2:],
        "PNG with private chunks": image[:header] + chunk(b"abCd", b"") * (size // 12) + image[header:],
        "PNG with chunks after the pixels": image[:end] + chunk(b"abCd", b"") * (size // 12) + image[end:],
    }


def scans_of(data: bytes, count: int, between: bytes = b"") -> bytes:
    """Repeat the last scan of a progressive JPEG, each time after `between`, until there are `count` scans."""
    have, last = data.count(b"\xff\xda"), data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + (between + last) * (count - have) + data[-2:]
