"""Drawing: boxes and labels are visible and in place, and a blurred face is not found again."""

import io
from itertools import groupby

import numpy as np
import pytest
from inference.imaging.decode import DecodedImage, ImageLimits, decode
from inference.imaging.draw import BLUR_MARGIN, BRIGHT, DARK, DrawOptions, draw
from inference.imaging.errors import ImageTooLarge
from inference.mtcnn.detector import Box, DetectOptions, Detector, Face, Landmarks, Point
from inference.mtcnn.engines import EngineSettings, load_detector
from inference.mtcnn.steps import Steps
from PIL import Image, ImageCms

PLENTY = 100_000_000
BOXES = DrawOptions(png=True, labels=False)
LABELS = DrawOptions(png=True)
BLUR = DrawOptions(png=True, blur=True)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return load_detector("openvino", EngineSettings())


def decoded(image: Image.Image) -> DecodedImage:
    return DecodedImage(np.asarray(image), 1)


def pixels(data: bytes) -> np.ndarray:
    """Decode a file to (height, width, 3) as a viewer would."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def a_face(left: float, top: float, right: float, bottom: float, confidence: float = 0.987) -> Face:
    """Give a face with all landmarks at the center of its box."""
    middle = Point((left + right) / 2, (top + bottom) / 2)
    return Face(Box(Point(left, top), Point(right, bottom)), Landmarks(*[middle] * 5), confidence)


@pytest.mark.parametrize("background", ["white", "black", (128, 128, 128)])
@pytest.mark.parametrize(
    ("size", "side"), [((40, 30), 20), ((320, 240), 24), ((320, 240), 200), ((4000, 3000), 20), ((4000, 3000), 1500)]
)
def test_a_box_is_visible_at_any_size_on_any_background_and_leaves_the_face_visible(
    size: tuple[int, int], side: int, background: str | tuple[int, int, int]
) -> None:
    """Its line is bright between dark ones; most pixels inside are unchanged."""
    width, height = size
    left, top = (width - side) // 2, (height - side) // 2
    face = a_face(left, top, left + side, top + side)
    drawn = pixels(draw(decoded(Image.new("RGB", size, background)), [face], BOXES, PLENTY))
    row = [tuple(color) for color in drawn[top + side // 4, : left + side // 4]]  # over the left edge, beside the dots
    assert [color for color, _ in groupby(row) if color in (BRIGHT, DARK)] == [DARK, BRIGHT, DARK]
    assert row[0] == row[-1] == tuple(drawn[0, 0])
    inside = drawn[top : top + side, left : left + side]
    assert (inside == drawn[0, 0]).all(axis=2).mean() > 0.5
    assert tuple(drawn[top + side // 2, left + side // 2]) == BRIGHT  # the landmarks


@pytest.mark.parametrize(
    "box", [(100, 100, 199, 250), (285, 100, 299, 250), (0, 0, 60, 60), (200, 0, 299, 290), (100, 292, 180, 299)]
)
def test_a_label_is_whole(box: tuple[float, float, float, float]) -> None:
    """It is above its box, or inside it at the edge of the image, and never cut off."""
    blank = decoded(Image.new("RGB", (300, 300), "white"))
    with_label, without = (pixels(draw(blank, [a_face(*box)], options, PLENTY)) for options in (LABELS, BOXES))
    label = (with_label != without).any(axis=2)
    text = label & (with_label[..., 1] > sum(color[1] for color in (BRIGHT, DARK)) / 2)
    (rows, columns), (text_rows, text_columns) = np.nonzero(label), np.nonzero(text)
    assert text_rows.size > 20
    assert rows.min() < text_rows.min() <= text_rows.max() < rows.max()
    assert columns.min() < text_columns.min() <= text_columns.max() < columns.max()
    assert (rows.max() <= box[1]) == (box[1] > 50)


@pytest.mark.parametrize("options", [BOXES, LABELS, BLUR])
@pytest.mark.parametrize("box", [(9, 9, 3, 3), (5, 5, 5, 5), (0, 0, 0.4, 0.4), (-3, -3, 14, 14)])
def test_odd_boxes_are_drawn_without_an_error(options: DrawOptions, box: tuple[float, float, float, float]) -> None:
    """The networks can swap the corners of a box."""
    assert draw(decoded(Image.new("RGB", (12, 12))), [a_face(*box)], options, PLENTY)


def test_a_blurred_face_is_not_found_again(astronaut: Image.Image, detector: Detector) -> None:
    """The rest of the image is unchanged."""
    original = decoded(astronaut)
    (face,) = detector.detect(original.pixels, DetectOptions(), Steps())
    drawn = pixels(draw(original, [face], BLUR, PLENTY))
    assert detector.detect(drawn.astype(np.uint8), DetectOptions(), Steps()) == []
    box = face.box
    margin = BLUR_MARGIN * (box.lower_right.y - box.up_left.y) + 2
    rows, columns = np.nonzero((drawn != original.pixels).any(axis=2))
    assert box.up_left.x - margin <= columns.min() <= columns.max() <= box.lower_right.x + margin
    assert box.up_left.y - margin <= rows.min() <= rows.max() <= box.lower_right.y + margin


@pytest.mark.parametrize("side", [4, 12, 60])
def test_a_face_at_the_edge_is_blurred_to_the_edge(side: int) -> None:
    """A widened box can extend beyond the image, and a small face has few pixels to remove."""
    noise = np.random.default_rng(1).integers(0, 256, (side, side, 3), dtype=np.uint8)
    drawn = pixels(draw(DecodedImage(noise, 1), [a_face(0, 0, side - 1, side - 1)], BLUR, PLENTY))
    for edge in (drawn, drawn[0], drawn[-1], drawn[:, 0], drawn[:, -1]):
        assert edge.std() < noise.std() / 1.5


def test_the_drawn_image_is_upright_and_has_no_metadata(astronaut: Image.Image) -> None:
    """With its EXIF a viewer would rotate it again, and EXIF can contain the place."""
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    astronaut.resize((300, 200)).save(file, "JPEG", exif=exif)
    turned = decode(file.getvalue(), ImageLimits(10**6, 10**6, 1000))
    drawn = Image.open(io.BytesIO(draw(turned, [], DrawOptions(), PLENTY)))
    assert (drawn.format, drawn.size, dict(drawn.getexif())) == ("JPEG", (200, 300), {})


def test_a_file_that_would_be_too_large_is_refused() -> None:
    """The message says how to get a smaller one."""
    noise = np.random.default_rng(1).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    with pytest.raises(ImageTooLarge, match="ask for JPEG"):
        draw(DecodedImage(noise, 1), [], BOXES, 100_000)
    assert len(draw(DecodedImage(noise, 1), [], DrawOptions(), 100_000)) < 100_000


def test_the_color_profile_is_kept(astronaut: Image.Image) -> None:
    """A phone's image has a wider range of colors, and looks pale without its profile."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    file = io.BytesIO()
    astronaut.save(file, "PNG", icc_profile=profile)
    limits = ImageLimits(10**6, 10**6, 1000)
    for options in (DrawOptions(), DrawOptions(png=True)):
        drawn = Image.open(io.BytesIO(draw(decode(file.getvalue(), limits), [], options, PLENTY)))
        assert drawn.info["icc_profile"] == profile
    gray = io.BytesIO()
    astronaut.convert("L").save(gray, "PNG", icc_profile=profile)
    assert decode(gray.getvalue(), limits).icc_profile == b""  # the profile is for one channel
