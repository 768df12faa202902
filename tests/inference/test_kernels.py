"""The compiled kernels against TensorFlow and NumPy, for every instruction set of this machine."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inference.mtcnn import kernels
from inference.mtcnn.detector import Detector
from inference.mtcnn.kernels import BUILT, FirstLayer, Kernels, KernelsMissing, instruction_sets, load_kernels
from inference.mtcnn.pyramid import Level, Tile, feature_side
from numpy.typing import NDArray
from PIL import Image

random = np.random.default_rng(0)
Floats = NDArray[np.float32]


WEIGHT = random.normal(0, 0.3, (10, 3, 3, 3)).astype(np.float32)
BIAS = random.normal(0, 0.5, 10).astype(np.float32)
SLOPE = random.normal(0.2, 0.5, 10).astype(np.float32)  # some negative, as in the package
LAYER = FirstLayer.of(WEIGHT, BIAS, SLOPE)
UNTOUCHED = -12345.0


@pytest.fixture(scope="module")
def tf(reference: Detector) -> Any:
    """TensorFlow, which the reference engine has configured; that is possible only before its first use."""
    import tensorflow as tf  # noqa: PLC0415 - it takes seconds in each process that collects

    assert reference.engine == "tensorflow"
    return tf


@pytest.fixture(scope="module", params=instruction_sets())
def built(request: pytest.FixtureRequest) -> Kernels:
    return Kernels(BUILT / f"kernels-{request.param}.so")


@pytest.fixture(scope="module")
def pixels(astronaut: Image.Image) -> NDArray[np.uint8]:
    """Pixels with an odd width and height, so that nothing divides evenly."""
    return np.asarray(astronaut.resize((397, 283)))


def features(tf: Any, pixels: NDArray[np.uint8], height: int, width: int) -> Floats:
    """Resize to a level and run the first layer on TensorFlow, as the package does: (10, rows, columns)."""
    level = tf.image.resize((pixels[None] - 127.5) / 128, (height, width), method="area")
    convolved = tf.nn.conv2d(level, WEIGHT.transpose(2, 3, 1, 0), 1, "VALID") + BIAS
    activated = tf.where(convolved > 0, convolved, convolved * SLOPE)
    result: Floats = tf.nn.max_pool2d(activated, 2, 2, "SAME").numpy()[0].transpose(2, 0, 1)
    return result


@pytest.mark.parametrize(
    ("height", "width"),
    [(169, 238), (120, 168), (61, 44), (60, 43), (35, 99), (13, 12), (12, 13), (14, 18), (283, 397), (340, 477)],
)
def test_the_first_layer_is_the_packages(
    tf: Any, built: Kernels, pixels: NDArray[np.uint8], height: int, width: int
) -> None:
    """Scaled down, unscaled and up, and with odd sides, where the last window of the pooling has one element."""
    rows, columns = feature_side(height), feature_side(width)
    canvas = np.full((10, rows + 3, columns + 5), UNTOUCHED, np.float32)
    tile = Tile(0, 0, 0, rows, columns, canvas_y=2, canvas_x=1)
    built.first_layer(pixels, Level(1.0, height, width), tile, LAYER, canvas)
    place = canvas[:, 2 : 2 + rows, 1 : 1 + columns]
    np.testing.assert_allclose(place, features(tf, pixels, height, width), atol=1e-4)
    place[...] = UNTOUCHED
    assert (canvas == UNTOUCHED).all(), "it wrote outside its tile"


def test_tiles_are_pieces_of_the_whole(built: Kernels, pixels: NDArray[np.uint8]) -> None:
    """The result is the same to the last bit, wherever a level is cut."""
    level = Level(1.0, 169, 237)
    rows, columns = feature_side(level.height), feature_side(level.width)
    whole = np.empty((10, rows, columns), np.float32)
    built.first_layer(pixels, level, Tile(0, 0, 0, rows, columns), LAYER, whole)
    for top, left, height, width in [(0, 0, 50, 70), (46, 66, 38, 52), (0, 31, 7, 5), (rows - 9, 3, 9, 96)]:
        piece = np.empty((10, height, width), np.float32)
        built.first_layer(pixels, level, Tile(0, top, left, height, width), LAYER, piece)
        np.testing.assert_array_equal(piece, whole[:, top : top + height, left : left + width])


@pytest.mark.parametrize("size", [24, 48])
def test_crops_are_those_of_crop_and_resize(tf: Any, built: Kernels, pixels: NDArray[np.uint8], size: int) -> None:
    """Inside the image, at its edges, outside, with swapped corners, and far too large."""
    height, width = pixels.shape[:2]
    corners = random.uniform(-0.2, 1.2, (64, 4)) * [width, height, width, height]
    corners[:4] = [[0, 0, width, height], [-1e9, -1e9, 1e9, 1e9], [5, 5, 5, 5], [width - 1, 0, width, 9]]
    crops = np.empty((len(corners), 3, size, size), np.float32)
    built.crop(pixels, corners, crops)
    relative = corners[:, [1, 0, 3, 2]] / [height, width, height, width]
    wanted = tf.image.crop_and_resize((pixels[None] - 127.5) / 128, relative, [0] * len(corners), (size, size))
    np.testing.assert_allclose(crops, wanted.numpy().transpose(0, 3, 1, 2), atol=1e-5)


box_lists = st.lists(
    st.tuples(*[st.integers(-5, 40)] * 2, *[st.integers(-2, 30)] * 2).map(
        lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
    ),
    max_size=60,
)


@settings(deadline=None)
@given(boxes=box_lists, limit=st.sampled_from([0.3, 0.5, 0.7]), by_smaller=st.booleans(), cut=st.integers(0, 60))
def test_suppression_is_that_of_the_full_matrix(
    boxes: list[tuple[int, ...]],
    limit: float,
    by_smaller: bool,  # noqa: FBT001 - drawn
    cut: int,
) -> None:
    """Empty and inverted boxes are among them, and the rows are split over two calls."""
    corners = np.array(boxes, np.float64).reshape(-1, 4)
    x1, y1, x2, y2 = corners.T
    area = (x2 - x1) * (y2 - y1)
    with np.errstate(invalid="ignore", divide="ignore"):
        shared = np.maximum(0, np.minimum.outer(x2, x2) - np.maximum.outer(x1, x1)) * np.maximum(
            0, np.minimum.outer(y2, y2) - np.maximum.outer(y1, y1)
        )
        whole = np.minimum.outer(area, area) if by_smaller else np.add.outer(area, area) - shared
        over = np.triu(shared / whole > limit, k=1)
    by_x = np.argsort(x1)
    fallen = np.zeros(len(boxes), np.uint8)
    cut = min(cut, len(boxes))
    for rows in (range(cut), range(cut, len(boxes))):
        load_kernels().suppress(corners[by_x], by_x, rows, limit, fallen, by_smaller=by_smaller)
    np.testing.assert_array_equal(fallen, over.any(axis=0))


def test_kernels_that_were_not_built_are_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """The message says how to build them."""
    monkeypatch.setattr(kernels, "BUILT", tmp_path)
    with pytest.raises(KernelsMissing, match="pip install services/inference builds them"):
        load_kernels()
