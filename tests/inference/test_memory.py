"""The memory of a detection is bounded by design, whatever the picture."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from inference.__main__ import WORKER_ENVIRONMENT
from numpy.typing import NDArray
from PIL import Image

from tests.conftest import all_candidates, encode, wall_of_faces

HEIGHT, WIDTH = 5000, 8000
# Of the whole process. The picture alone is 120 MB, and decoding it takes as much again.
LIMIT_MB = 800
WORST_LIMIT_MB = 1500
PROGRAM = """
import json, sys
from pathlib import Path
from inference.imaging.draw import DrawOptions, draw
from inference.imaging.errors import ImageTooLarge
from inference.imaging.decode import ImageLimits, decode
from inference.mtcnn.detector import DetectOptions
from inference.mtcnn.engines import EngineSettings, load_detector
from inference.mtcnn.steps import Abandoned, Steps

engine, min_face_size, last_step = sys.argv[1:]

class UntilStep(Steps):
    def __call__(self, name):
        if name == last_step and name in self.begun:
            self.abandon()
        self.begun.add(name)
        return super().__call__(name)

detector = load_detector(engine, EngineSettings())
decoded = decode(sys.stdin.buffer.read(), ImageLimits(10 * 1024 * 1024, 40_000_000, 16384))
steps, outcome = UntilStep(), "drawn"
steps.begun = set()
try:
    faces = detector.detect(decoded.pixels, DetectOptions(min_face_size=int(min_face_size)), steps)
    draw(decoded, faces, DrawOptions(png=True), 20 * 1024 * 1024)
except ImageTooLarge:
    outcome = "drawn until it was too long"
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


def as_jpeg(picture: NDArray[np.uint8]) -> bytes:
    return encode(Image.fromarray(picture), "JPEG", quality=10)


def as_png(picture: NDArray[np.uint8]) -> bytes:
    return encode(Image.fromarray(picture))


def examine(file: bytes, engine: str, min_face_size: int, last_step: str = "none") -> tuple[str, float]:
    """Decode and examine a picture in a process of its own; give the outcome and the peak of its memory in MB.

    It is abandoned when `last_step` would begin for the second time.
    """
    command = [sys.executable, "-c", PROGRAM, engine, str(min_face_size), last_step]
    done = subprocess.run(command, input=file, capture_output=True, check=True, env=os.environ | WORKER_ENVIRONMENT)
    answer = json.loads(done.stdout)
    sys.stdout.write(f"{answer['megabytes']:.0f} MB\n")
    return answer["outcome"], answer["megabytes"]


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_forty_megapixels_of_noise_are_examined_and_drawn(engine: str) -> None:
    """Random bytes, which make too long a file, and a checkerboard."""
    for file, end in ((as_jpeg(noise()), "drawn until it was too long"), (as_png(checkerboard()), "drawn")):
        outcome, megabytes = examine(file, engine, min_face_size=20)
        assert outcome == end
        assert megabytes < LIMIT_MB


def test_a_wall_of_faces_takes_no_more(face: Image.Image) -> None:
    """Fifty thousand of them; O-Net would need longer than any caller waits, so it ends there."""
    outcome, megabytes = examine(encode(wall_of_faces(face, WIDTH, HEIGHT)), "openvino", 20, last_step="onet")
    assert outcome == "abandoned"
    assert megabytes < LIMIT_MB


def test_a_picture_made_to_have_ten_million_candidates_is_bounded() -> None:
    """The worst that was found: every cell of the largest level that a request can ask for."""
    outcome, megabytes = examine(as_png(all_candidates(WIDTH, HEIGHT)), "openvino", 12, last_step="nms")
    assert outcome == "abandoned"  # in the midst of the suppression, which would take minutes
    assert megabytes < WORST_LIMIT_MB
