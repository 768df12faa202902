"""The reference engine gives the answers of the mtcnn package, but raises its failures instead of "no faces"."""

import time
from itertools import product
from typing import Any

import numpy as np
import pytest
from inference.mtcnn.detector import DetectOptions, Detector
from inference.mtcnn.steps import Abandoned, Steps
from PIL import Image


@pytest.fixture(scope="module")
def detector(reference: Detector) -> Detector:
    return reference


def test_it_finds_the_astronaut_where_the_package_does(detector: Detector, astronaut: Image.Image) -> None:
    """One face: 83 x 107 at (182, 64), confidence 0.9991."""
    (face,) = detector.detect(np.asarray(astronaut), DetectOptions(), Steps())
    up_left, lower_right = face.box.up_left, face.box.lower_right
    size = (lower_right.x - up_left.x, lower_right.y - up_left.y)
    assert (round(up_left.x), round(up_left.y), round(size[0]), round(size[1])) == (182, 64, 83, 107)
    assert face.confidence == pytest.approx(0.9991, abs=5e-5)


@pytest.mark.parametrize("size", [(512, 512), (300, 300), (257, 401)])
@pytest.mark.parametrize("min_face_size", [12, 20, 24])
def test_boxes_landmarks_and_confidence_are_the_packages(
    detector: Detector, package: Any, astronaut: Image.Image, size: tuple[int, int], min_face_size: int
) -> None:
    """Each field, rounded as the package rounds, in the package's order."""
    pixels = np.asarray(astronaut.resize(size))
    expected = package.detect_faces(pixels, min_face_size=min_face_size, box_format="xyxy")
    faces = detector.detect(pixels, DetectOptions(min_face_size=min_face_size), Steps())
    assert len(faces) == len(expected) > 0
    for face, wanted in zip(faces, expected, strict=True):
        box = (face.box.up_left.x, face.box.up_left.y, face.box.lower_right.x, face.box.lower_right.y)
        assert [round(side) for side in box] == wanted["box"]
        assert face.confidence == wanted["confidence"]
        for name, (x, y) in wanted["keypoints"].items():
            point = getattr(face.landmarks, name)
            assert (round(point.x), round(point.y)) == (x, y)


@pytest.mark.parametrize("min_face_size", [30, 50, 100])
def test_a_larger_min_face_size_still_finds_the_face(
    detector: Detector, package: Any, astronaut: Image.Image, min_face_size: int
) -> None:
    """The package finds nothing: it builds levels that are too small for its network and hides the failure."""
    pixels = np.asarray(astronaut)
    assert package.detect_faces(pixels, min_face_size=min_face_size) == []
    (face,) = detector.detect(pixels, DetectOptions(min_face_size=min_face_size), Steps())
    assert face.box.up_left.x == pytest.approx(182, abs=5)
    assert face.box.up_left.y == pytest.approx(64, abs=5)


def test_small_images_have_no_face_and_raise_nothing(detector: Detector) -> None:
    """The pyramid of some of them has no level."""
    for height, width, size in product([1, 11, 12, 19, 40], [1, 11, 12, 13, 20, 33], [12, 20, 50]):
        noise = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
        assert detector.detect(noise, DetectOptions(min_face_size=size), Steps()) == [], (height, width, size)


def test_each_network_is_a_step(detector: Detector, astronaut: Image.Image) -> None:
    """Each is timed, and none begins after the deadline."""
    steps = Steps()
    detector.detect(np.asarray(astronaut), DetectOptions(), steps)
    assert list(steps.milliseconds) == ["pnet", "rnet", "onet"]
    late = Steps(deadline=time.monotonic())
    with pytest.raises(Abandoned):
        detector.detect(np.asarray(astronaut), DetectOptions(), late)
    assert late.milliseconds == {}
