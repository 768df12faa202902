"""Mutated images: small samples of each accepted kind with truncations, bit flips, splices and wrong numbers."""

import functools
import random
import struct
import zlib

import numpy as np
from PIL import Image

from tests.conftest import IMAGES, encode

PNG_START = b"\x89PNG\r\n\x1a\n"
# Values that a length or size field is least likely to handle.
EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


@functools.cache
def samples() -> tuple[bytes, ...]:
    """Return valid images below 64 pixels per side: all formats, modes and kinds of metadata."""
    face = Image.open(IMAGES / "astronaut.webp").convert("RGB").crop((142, 28, 302, 208)).resize((40, 45))
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 255, (24, 20, 3), dtype=np.uint8))
    gray = Image.fromarray(np.asarray(face.convert("L")).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    beside = {"exif": exif, "icc_profile": bytes(200)}
    return (
        *(encode(face, form, **beside) for form in ("JPEG", "PNG", "WEBP")),
        *(encode(noise, form) for form in ("JPEG", "PNG", "WEBP")),
        encode(face, "JPEG", progressive=True),
        encode(face, "JPEG", restart_marker_blocks=2),
        encode(face.convert("CMYK"), "JPEG"),
        encode(face.convert("L"), "JPEG"),
        encode(face, "MPO", save_all=True, append_images=[noise]),
        *(encode(face.convert(mode)) for mode in ("1", "L", "LA", "P", "RGBA")),
        encode(gray),
        encode(face, save_all=True, append_images=[face.rotate(90)]),
        encode(face.convert("RGBA"), "WEBP", lossless=True),
        encode(face, "WEBP", save_all=True, append_images=[face.rotate(90)]),
    )


def mutated(chance: random.Random) -> bytes:
    """Return a sample with up to four mutations."""
    data = chance.choice(samples())
    for _ in range(chance.choice((0, 1, 1, 1, 2, 2, 3, 4))):
        data = chance.choice(MUTATIONS)(data, chance)
    if data.startswith(PNG_START) and chance.random() < 0.7:
        data = with_valid_checksums(data)
    return data


def truncated(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def flipped(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data or b"\0")
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def flipped_early(data: bytes, chance: random.Random) -> bytes:
    """Flip bits among the first 64 bytes, where the headers are."""
    return flipped(data[:64], chance) + data[64:]


def spliced(data: bytes, chance: random.Random) -> bytes:
    other = chance.choice(samples())
    return data[: chance.randrange(len(data) + 1)] + other[chance.randrange(len(other)) :]


def repeated(data: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(data) + 1)
    end = min(len(data), start + chance.choice((1, 4, 12, 200)))
    return data[:end] + data[start:end] * chance.choice((1, 3, 50)) + data[end:]


def without_a_piece(data: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(data) + 1)
    return data[:start] + data[start + chance.choice((1, 2, 4, 30)) :]


def with_an_extreme(data: bytes, chance: random.Random) -> bytes:
    """Overwrite a possible length or size field with an extreme value, in either byte order."""
    number, place = chance.choice(EXTREMES), chance.randrange(len(data) + 1)
    form = chance.choice(("B", ">H", "<H", ">I", "<I"))
    field = struct.pack(form, number & (1 << 8 * struct.calcsize(form)) - 1)
    return data[:place] + field + data[place + len(field) :]


def noise(data: bytes, chance: random.Random) -> bytes:
    """Replace all but the first bytes with noise."""
    return data[: chance.choice((0, 0, 4, 12, 33))] + chance.randbytes(chance.randrange(300))


MUTATIONS = (truncated, flipped, flipped_early, spliced, repeated, without_a_piece, with_an_extreme, noise)


def with_valid_checksums(data: bytes) -> bytes:
    """Recompute the checksums of a PNG's chunks, so that decoders parse mutated chunks."""
    out, place = [PNG_START], len(PNG_START)
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4])
        body = data[place + 4 : place + 8 + length]
        out += [data[place : place + 4], body, struct.pack(">I", zlib.crc32(body))]
        place += 12 + length
    return b"".join(out) + data[place:]
