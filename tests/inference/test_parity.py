"""All engines find the faces that the mtcnn package finds, in the same places."""

import dataclasses
import sys
from dataclasses import dataclass
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st
from inference.mtcnn.detector import RGB, CascadeSettings, DetectOptions, Detector, Face
from inference.mtcnn.engines import EngineSettings, load_detector
from inference.mtcnn.steps import Steps
from PIL import Image, ImageEnhance

# If a candidate is exactly at a threshold, the order of additions decides. The faces can then be near, but not equal.
SHARE_OF_EQUAL = 0.99
CASES = 120


@dataclass(frozen=True)
class Case:
    """A photograph and how it is changed; printed when a test fails."""

    photograph: str
    width: int
    aspect: float
    left: float
    top: float
    share: float
    mirrored: bool
    turned: int
    brightness: float
    copies: int
    min_face_size: int

    def pixels(self, photographs: dict[str, Image.Image]) -> RGB:
        """Crop, resize, turn, brighten and repeat."""
        image = photographs[self.photograph]
        left, top = self.left * (1 - self.share) * image.width, self.top * (1 - self.share) * image.height
        box = (left, top, left + self.share * image.width, top + self.share * image.height)
        image = image.resize((self.width, round(self.width * self.aspect)), Image.Resampling.BICUBIC, box)
        if self.mirrored:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        image = ImageEnhance.Brightness(image.rotate(self.turned)).enhance(self.brightness)
        return np.tile(np.asarray(image), (1, self.copies, 1))


cases = st.builds(
    Case,
    photograph=st.sampled_from(["astronaut", "admiral"]),
    width=st.integers(40, 640),
    aspect=st.floats(0.8, 1.25),
    left=st.floats(0, 1),
    top=st.floats(0, 1),
    share=st.floats(0.6, 1),
    mirrored=st.booleans(),
    turned=st.integers(-15, 15),
    brightness=st.floats(0.5, 1.5),
    copies=st.integers(1, 3),
    min_face_size=st.sampled_from([12, 15, 20, 24, 40, 70]),
)


def numbers(face: Face) -> list[float]:
    """Give the coordinates of a face as a list."""
    points = [face.box.up_left, face.box.lower_right, *dataclasses.astuple(face.landmarks)]
    return [
        value for point in points for value in (dataclasses.astuple(point) if not isinstance(point, tuple) else point)
    ]


def compare(found: list[Face], wanted: list[Face]) -> str:
    """Give "equal", "near", or what is wrong. The order is ignored, because equal confidences can differ by a bit."""
    if len(found) != len(wanted):
        return f"{len(found)} faces instead of {len(wanted)}"
    equal = near = True
    remaining = list(found)
    for other in wanted:
        distances = [np.abs(np.subtract(numbers(one), numbers(other))).max() for one in remaining]
        one = remaining.pop(int(np.argmin(distances)))
        confidence = abs(one.confidence - other.confidence)
        equal &= np.array_equal(np.round(numbers(one)), np.round(numbers(other))) and confidence <= 1e-3
        near &= bool(min(distances) <= 5 and confidence <= 0.01)
    return "equal" if equal else "near" if near else "faces elsewhere"


def test_the_faces_are_those_of_the_package(
    reference: Detector,
    openvino: Detector,
    onnxruntime: Detector,
    astronaut: Image.Image,
    admiral: Image.Image,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """For random sizes, crops, tilts, brightness and min_face_size. Prints the cases with faces that are only near."""
    photographs = {"astronaut": astronaut, "admiral": admiral}
    near: dict[str, list[Case]] = {"openvino": [], "onnxruntime": []}
    faces = 0

    @hypothesis.settings(
        max_examples=CASES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def holds(case: Case) -> None:
        nonlocal faces
        pixels, options = case.pixels(photographs), DetectOptions(min_face_size=case.min_face_size)
        wanted = reference.detect(pixels, options, Steps())
        faces += len(wanted)
        for detector in (openvino, onnxruntime):
            outcome = compare(detector.detect(pixels, options, Steps()), wanted)
            assert outcome in {"equal", "near"}, f"{detector.engine}: {outcome}"
            if outcome == "near":
                near[detector.engine].append(case)

    holds()
    with capsys.disabled():
        sys.stdout.write(f"\n{CASES} images, {faces} faces, near but not equal: {near}\n")
    assert faces >= CASES / 2
    for engine, found in near.items():
        assert len(found) <= (1 - SHARE_OF_EQUAL) * CASES, engine


def test_large_images_have_the_same_faces(
    reference: Detector, openvino: Detector, onnxruntime: Detector, astronaut: Image.Image, admiral: Image.Image
) -> None:
    """The image is so wide that float32 positions round visibly, and has faces of all sizes."""
    wide = Image.new("RGB", (4100, 700))
    for place in range(8):
        photograph = (astronaut, admiral)[place % 2]
        wide.paste(photograph.resize((150 + 70 * place, 170 + 75 * place)), (480 * place, 5 * place))
    pixels = np.asarray(wide)
    wanted = reference.detect(pixels, DetectOptions(), Steps())
    for detector in (openvino, onnxruntime):
        found = detector.detect(pixels, DetectOptions(), Steps())
        assert len(found) == len(wanted) >= 8
        # Compared before rounding, since a coordinate near a half can round either way.
        np.testing.assert_allclose(sorted(map(numbers, found)), sorted(map(numbers, wanted)), atol=0.1)


@pytest.mark.parametrize(
    "settings",
    [
        CascadeSettings(scale_factor=0.65),
        CascadeSettings(scale_factor=0.75),
        CascadeSettings(pnet_threshold=0.9),
        CascadeSettings(rnet_threshold=0.1),
        CascadeSettings(onet_threshold=0.1),
        CascadeSettings(0.6, 0.4, 0.5, 0.3),
    ],
    ids=str,
)
def test_the_settings_of_the_cascade_mean_what_they_mean_in_the_package(
    settings: CascadeSettings, package: Any, astronaut: Image.Image
) -> None:
    """The factor of the pyramid and each threshold alone, and all together."""
    pixels = np.asarray(astronaut)
    rows = package.detect_faces(
        pixels,
        box_format="xyxy",
        output_type="numpy",
        scale_factor=settings.scale_factor,
        threshold_pnet=settings.pnet_threshold,
        threshold_rnet=settings.rnet_threshold,
        threshold_onet=settings.onet_threshold,
    )
    detector = load_detector("openvino", EngineSettings(settings))
    found = detector.detect(pixels, DetectOptions(), Steps())
    by_place = sorted([*dataclasses.astuple(face.box.up_left), face.confidence] for face in found)
    assert len(found) == len(rows) > 0
    np.testing.assert_allclose(by_place, sorted(rows[:, [1, 2, 5]].tolist()), atol=0.02)
