"""The memory of a detection is bounded by design, whatever the picture."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.conftest import encode, wall_of_faces

HEIGHT, WIDTH = 5000, 8000
# Of the whole process. The picture alone is 120 MB, and decoding it takes as much again.
LIMIT_MB = 800
WORST_LIMIT_MB = 1500
PROGRAM = """
import json, sys, time
from pathlib import Path
from inference.image import ImageLimits, decode
from inference.mtcnn.detector import DetectOptions
from inference.mtcnn.engines import EngineSettings, load_detector
from inference.mtcnn.steps import Abandoned, Steps

detector = load_detector(sys.argv[1], EngineSettings())
steps, outcome = Steps(time.monotonic() + float(sys.argv[2])), "examined"
try:
    picture = decode(sys.stdin.buffer.read(), ImageLimits(10 * 1024 * 1024, 40_000_000, 16384)).rgb
    detector.detect(picture, DetectOptions(min_face_size=int(sys.argv[3])), steps)
except Abandoned:
    outcome = "abandoned"
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(json.dumps({"outcome": outcome, "megabytes": int(peak.split()[1]) / 1024}))
"""


def noise() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def checkerboard() -> NDArray[np.uint8]:
    y, x = np.ogrid[:HEIGHT, :WIDTH]
    return np.where((y // 5 + x // 5) % 2, 255, 0).astype(np.uint8)


def all_candidates() -> NDArray[np.uint8]:
    """Repeat a pattern of 4 x 4 pixels in which P-Net, at a scale of 1, takes every cell for a face."""
    light, pale, violet, dark = [223, 157, 244], [247, 201, 214], [185, 106, 197], [31, 56, 98]
    rows = [[light, light, pale, pale]] * 2 + [[violet, violet, dark, dark]] * 2
    return np.tile(np.array(rows, np.uint8), (HEIGHT // 4, WIDTH // 4, 1))


def as_jpeg(picture: NDArray[np.uint8]) -> bytes:
    return encode(Image.fromarray(picture), "JPEG", quality=10)


def as_png(picture: NDArray[np.uint8]) -> bytes:
    return encode(Image.fromarray(picture))


def examine(file: bytes, engine: str, seconds: float, min_face_size: int) -> tuple[str, float]:
    """Decode and examine a picture in a process of its own; give the outcome and the peak of its memory in MB."""
    command = [sys.executable, "-c", PROGRAM, engine, str(seconds), str(min_face_size)]
    done = subprocess.run(command, input=file, capture_output=True, check=True)
    answer = json.loads(done.stdout)
    return answer["outcome"], answer["megabytes"]


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_forty_megapixels_of_noise_are_examined(engine: str) -> None:
    """Random bytes, and a checkerboard."""
    for file in (as_jpeg(noise()), as_png(checkerboard())):
        outcome, megabytes = examine(file, engine, 1000, min_face_size=20)
        assert outcome == "examined"
        sys.stdout.write(f"{engine}: {megabytes:.0f} MB\n")
        assert megabytes < LIMIT_MB


def test_a_wall_of_faces_is_abandoned_when_its_time_is_over(face: Image.Image) -> None:
    """Fifty thousand of them: examining all takes longer than any caller waits."""
    outcome, megabytes = examine(encode(wall_of_faces(face, WIDTH, HEIGHT)), "openvino", 3, min_face_size=20)
    assert outcome == "abandoned"
    sys.stdout.write(f"{megabytes:.0f} MB\n")
    assert megabytes < LIMIT_MB


def test_a_picture_made_to_have_ten_million_candidates_is_abandoned() -> None:
    """The worst that was found: every cell of the largest level that a request can ask for."""
    outcome, megabytes = examine(as_png(all_candidates()), "openvino", 4, min_face_size=12)
    assert outcome == "abandoned"
    sys.stdout.write(f"{megabytes:.0f} MB\n")
    assert megabytes < WORST_LIMIT_MB
