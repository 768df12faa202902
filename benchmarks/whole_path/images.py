"""The images that every contestant gets, in three sizes, with one face, several faces and none."""

import base64
import io
import json
from dataclasses import dataclass
from functools import cache

from detector import mosaic, photographs
from PIL import Image
from wire import post

SIZES = {"320x240": (320, 240), "640x480": (640, 480), "1920x1080": (1920, 1080)}
CONTENTS = ("one face", "several", "none")
SUIT = (40, 460)  # columns of the astronaut, from the bottom up, without a face
BOUNDARY = "facet-image"


@dataclass(frozen=True)
class SampleImage:
    """A JPEG and its content."""

    size: str
    content: str
    jpeg: bytes

    @property
    def name(self) -> str:
        """The size and the content."""
        return f"{self.size}, {self.content}"

    def as_json(self) -> bytes:
        """Return the request that both stacks accept: JSON with base64."""
        body = json.dumps({"image": base64.b64encode(self.jpeg).decode()}).encode()
        return post("/predict", body, "application/json")

    def as_form(self) -> bytes:
        """Return the request of a browser's form."""
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="image.jpg"\r\n\r\n'
        body = head.encode() + self.jpeg + f"\r\n--{BOUNDARY}--\r\n".encode()
        return post("/predict", body, f"multipart/form-data; boundary={BOUNDARY}")

    def as_it_is(self) -> bytes:
        """Return the request whose body is the image."""
        return post("/predict", self.jpeg, "image/jpeg")


@cache
def images(size: str) -> list[SampleImage]:
    """Return three images of a size: a portrait, portraits in many sizes, and a space suit without a head."""
    width, height = SIZES[size]
    astronaut, admiral = photographs()
    left, right = SUIT
    bottom = astronaut.height
    suit = astronaut.crop((left, bottom - (right - left) * height // width, right, bottom))
    made = {
        "one face": portrait(admiral, width, height),
        "several": mosaic(width, height, [astronaut, admiral]),
        "none": suit.resize((width, height), Image.Resampling.LANCZOS),
    }
    return [SampleImage(size, content, jpeg(made[content])) for content in CONTENTS]


def portrait(photo: Image.Image, width: int, height: int) -> Image.Image:
    """Crop and resize a photograph."""
    cut = photo.crop((0, 0, photo.width, photo.width * height // width))
    return cut.resize((width, height), Image.Resampling.LANCZOS)


def jpeg(image: Image.Image) -> bytes:
    """Encode an image as a camera would."""
    target = io.BytesIO()
    image.save(target, "JPEG", quality=90)
    return target.getvalue()
