"""Decompression bombs and the like: small inputs that would cost much work or memory if they were expanded."""

import gzip
import io
import struct
import zlib

from PIL import Image

from protos import infer_pb2
from tests.conftest import encode
from tests.crafted_images import chunk, many_parts, png, png_header, scans_of
from tests.hostile.cases import FORM, JSON, form, part, request
from tests.hostile.http2 import data_frames, grpc_headers, grpc_message, headers_frame, opening

MIB = 1024 * 1024


def compressed_zeros(size: int) -> bytes:
    """Compress `size` zero bytes, to about a thousandth of that."""
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(MIB)) for _ in range(size // MIB)) + packer.flush()


def images() -> dict[str, bytes]:
    """Return images that claim wrong sizes, expand enormously or have a million parts."""
    small = Image.new("RGB", (40, 40), "teal")
    plain, jpeg = encode(small), encode(small, "JPEG")
    white = io.BytesIO()
    Image.new("1", (20000, 20000), 1).save(white, "PNG", optimize=True)
    bomb = compressed_zeros(256 * MIB)
    large = encode(Image.new("L", (3000, 2000)), "JPEG", progressive=True)
    size = jpeg.index(b"\xff\xc0") + 5
    tags = b"".join(struct.pack(">HHII", tag, 1, MIB, 8) for tag in range(60_000))
    exif = b"MM\0*" + struct.pack(">IH", 8, 60_000) + tags + bytes(MIB)
    head, end = plain[:33], plain[33:]
    frames = [Image.new("RGB", (40, 40), (0, index % 256, index // 256)) for index in range(1, 1001)]
    return {
        "a PNG of 400 megapixels": white.getvalue(),
        "a PNG of 65000 x 1": png_header(65000, 1),
        "a PNG whose pixels expand beyond its size": head + chunk(b"IDAT", bomb) + chunk(b"IEND", b""),
        "a PNG with a compressed text": head + chunk(b"zTXt", b"k\0\0" + bomb) + end,
        "a PNG with a compressed international text": head + chunk(b"iTXt", b"k\0\1\0\0\0" + bomb) + end,
        "a PNG with a compressed profile": head + chunk(b"iCCP", b"k\0\0" + bomb) + end,
        "a PNG with EXIF that refers to itself": head + chunk(b"eXIf", exif) + end,
        "an animated PNG of 1000 frames": encode(small, save_all=True, append_images=frames),
        "a PNG without pixels": png(),
        "a JPEG that claims 65500 x 65500": jpeg[:size] + struct.pack(">HH", 65500, 65500) + jpeg[size + 4 :],
        "a JPEG of 5000 scans": scans_of(large, 5000),
        "a WebP that claims 65535 x 65535": webp_canvas(encode(small, "WEBP", lossless=True), 65535),
        **many_parts(),
    }


def webp_canvas(plain: bytes, side: int) -> bytes:
    """Put an image on a much larger animation canvas."""
    canvas = b"VP8X" + struct.pack("<IB3x", 10, 2) + 2 * (side - 1).to_bytes(3, "little")
    place = 6 * b"\0" + 2 * (39).to_bytes(3, "little") + 4 * b"\0"
    frame = b"ANMF" + struct.pack("<I", len(place) + len(plain) - 12) + place + plain[12:]
    body = b"WEBP" + canvas + b"ANIM" + struct.pack("<I6x", 6) + frame
    return b"RIFF" + struct.pack("<I", len(body)) + body


def requests() -> dict[str, bytes]:
    """Return HTTP/1.1 requests: one for each image, and requests that are bombs themselves."""
    wires = {name: request("POST", "/predict", {"Content-Type": "image/png"}, data) for name, data in images().items()}
    parts = form(*(part(f"field{index}", b"x", "") for index in range(10_000)))
    bomb = gzip.compress(bytes(256 * MIB), 9)
    return wires | {
        "a form of 10,000 parts": request("POST", "/predict", FORM, parts),
        "a form of 10,000 images": request("POST", "/predict/batch", FORM, form(*(part("image", b"x"),) * 10_000)),
        "JSON nested a million deep": request("POST", "/predict", JSON, b"[" * 10**6),
        "JSON of a million fields": request("POST", "/predict", JSON, b'{"a":1,' * 10**5 + b'"b":2' + b"}" * 10**5),
        "a compressed body": request("POST", "/predict", {"Content-Encoding": "gzip", **JSON}, bomb),
    }


def grpc_call() -> tuple[bytes, bytes]:
    """Return the headers and the message of a gRPC call: 256 MiB, compressed to a quarter of 1 MiB."""
    packed = gzip.compress(infer_pb2.Image(raw_data=bytes(256 * MIB)).SerializeToString(), 9)
    headers = grpc_headers("/Inference/Predict", ("grpc-encoding", "gzip"))
    return opening() + headers_frame(headers), data_frames(grpc_message(packed, compressed=1))
