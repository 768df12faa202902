"""The examination without the service: bytes and options in, faces and a drawn image out."""

import io
import time

import pytest
from inference.examination import InvalidOption, Options, examine
from inference.imaging.decode import ImageLimits
from inference.imaging.draw import DrawOptions
from inference.imaging.errors import ImageTooLarge, InvalidImage
from inference.mtcnn.detector import DetectOptions, Detector
from inference.mtcnn.steps import Abandoned, Steps
from PIL import Image

from tests.conftest import encode

LIMITS = ImageLimits(max_bytes=10**6, max_pixels=10**6, max_side=1000)


def test_an_examination_has_the_upright_size_the_faces_and_the_times(
    openvino: Detector, astronaut: Image.Image
) -> None:
    """The image is stored on its side; nothing is drawn unless asked for."""
    exif = Image.Exif()
    exif[0x0112] = 6
    small = astronaut.resize((300, 260))
    sideways = encode(small.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=95, exif=exif)
    found = examine(sideways, Options(), openvino, LIMITS, Steps())
    assert (found.width, found.height, found.orientation) == (300, 260, 6)
    assert len(found.faces) == 1
    assert (found.drawn, found.model, found.engine) == (b"", "mtcnn", "openvino")
    assert {"decode", "pnet", "rnet", "onet"} <= found.milliseconds.keys()
    assert "draw" not in found.milliseconds


def test_an_examination_draws_when_asked(openvino: Detector, face: Image.Image) -> None:
    """The drawn image is a file in the format of the options, and drawing is a step."""
    options = Options(draw=DrawOptions(png=True))
    found = examine(encode(face), options, openvino, LIMITS, Steps())
    drawn = Image.open(io.BytesIO(found.drawn))
    assert (drawn.format, drawn.size) == ("PNG", face.size)
    assert "draw" in found.milliseconds


def test_a_bad_image_is_an_error_named_for_what_happened(openvino: Detector) -> None:
    """It is never an examination without faces."""
    for image, error in ((b"no image", InvalidImage), (bytes(LIMITS.max_bytes + 1), ImageTooLarge)):
        with pytest.raises(error):
            examine(image, Options(), openvino, LIMITS, Steps())


def test_an_examination_stops_when_nobody_waits(openvino: Detector, face: Image.Image) -> None:
    """No step begins after the deadline."""
    with pytest.raises(Abandoned):
        examine(encode(face), Options(), openvino, LIMITS, Steps(deadline=time.monotonic()))


@pytest.mark.parametrize(
    ("detect", "draw", "message"),
    [
        (DetectOptions(min_face_size=11), None, "min_face_size is 11; it must be at least 12 pixels"),
        (DetectOptions(min_confidence=1.1), None, "min_confidence is 1.1; it must be between 0 and 1"),
        (DetectOptions(min_confidence=float("nan")), None, "min_confidence is nan"),
        (DetectOptions(max_faces=-1), None, "max_faces is -1; it must be 1 or more, or 0 for all"),
        (DetectOptions(max_faces=1), DrawOptions(blur=True), "would leave faces unblurred"),
        (DetectOptions(min_confidence=0.9), DrawOptions(blur=True), "would leave faces unblurred"),
    ],
)
def test_an_option_out_of_range_is_refused(detect: DetectOptions, draw: DrawOptions | None, message: str) -> None:
    """It is refused before any image is decoded."""
    with pytest.raises(InvalidOption, match=message):
        Options(detect, draw)
