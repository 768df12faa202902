"""The memory of an examination is bounded for every image."""

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
# For the whole process. The pixels alone take 120 MB, and decoding them takes as much again.
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
    outcome = "too large to draw"
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


def as_jpeg(pixels: NDArray[np.uint8]) -> bytes:
    return encode(Image.fromarray(pixels), "JPEG", quality=10)


def as_png(pixels: NDArray[np.uint8]) -> bytes:
    return encode(Image.fromarray(pixels), compress_level=1)


def examine(file: bytes, engine: str, min_face_size: int, last_step: str = "none") -> tuple[str, float]:
    """Decode, examine and draw an image in a new process. Give the outcome and the peak of its memory in MB.

    The examination is abandoned when `last_step` would begin a second time.
    """
    command = [sys.executable, "-c", PROGRAM, engine, str(min_face_size), last_step]
    done = subprocess.run(command, input=file, capture_output=True, check=True, env=os.environ | WORKER_ENVIRONMENT)
    answer = json.loads(done.stdout)
    sys.stdout.write(f"{answer['megabytes']:.0f} MB\n")
    return answer["outcome"], answer["megabytes"]


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_forty_megapixels_of_noise_fit_into_the_memory(engine: str) -> None:
    """The drawn PNG would be too large, so drawing it ends early."""
    outcome, megabytes = examine(as_jpeg(noise()), engine, min_face_size=20)
    assert outcome == "too large to draw"
    assert megabytes < LIMIT_MB


def test_forty_megapixels_are_examined_and_drawn_within_the_memory() -> None:
    """A checkerboard, which has many candidates and compresses well."""
    outcome, megabytes = examine(as_png(checkerboard()), "openvino", min_face_size=20)
    assert outcome == "drawn"
    assert megabytes < LIMIT_MB


def test_fifty_thousand_faces_fit_into_the_memory(face: Image.Image) -> None:
    """The test stops in O-Net, which would take longer than any caller waits."""
    outcome, megabytes = examine(
        encode(wall_of_faces(face, WIDTH, HEIGHT), compress_level=1), "openvino", 20, last_step="onet"
    )
    assert outcome == "abandoned"
    assert megabytes < LIMIT_MB


def test_ten_million_candidates_fit_into_the_memory() -> None:
    """The most expensive image found: every cell of the largest possible level is a candidate."""
    outcome, megabytes = examine(as_png(all_candidates(WIDTH, HEIGHT)), "openvino", 12, last_step="nms")
    assert outcome == "abandoned"  # during the suppression, which would take minutes
    assert megabytes < WORST_LIMIT_MB
