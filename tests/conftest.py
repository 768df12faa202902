"""What all tests share: pictures, real ones and ones made to be odd."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

IMAGES = Path(__file__).parent / "images"


def encode(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    """Give the bytes of an image file."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


@pytest.fixture(scope="session")
def astronaut_file() -> bytes:
    """NASA's portrait of Eileen Collins, 512 x 512, one face; lossless, the pixels of scikit-image's astronaut."""
    return (IMAGES / "astronaut.webp").read_bytes()


@pytest.fixture(scope="session")
def astronaut(astronaut_file: bytes) -> Image.Image:
    """The same, decoded."""
    return Image.open(io.BytesIO(astronaut_file)).convert("RGB")


@pytest.fixture(scope="session")
def face(astronaut: Image.Image) -> Image.Image:
    """A small picture with one face, cheap to examine."""
    return astronaut.crop((142, 28, 302, 208)).resize((107, 120), Image.Resampling.LANCZOS)


@pytest.fixture(scope="session")
def face_file(face: Image.Image) -> bytes:
    """The same as a PNG file."""
    return encode(face)
