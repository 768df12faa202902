"""What `min_face_size` costs and finds: the CPU time and the faces of one image, size by size.

    make bench-tuning

Each size is examined once in every round, so that a disturbance of the machine affects all of them. A figure is the
minimum CPU time of all rounds.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
from detector import RGB, ROOT, photographs
from inference.mtcnn.detector import DetectOptions
from inference.mtcnn.engines import EngineSettings, load_detector
from inference.mtcnn.steps import Steps
from PIL import Image

WIDTH, ROWS = 1920, (60, 75, 95, 120, 150, 190, 240, 300)  # pixels; a face is about a quarter of its portrait's height
SIZES = (12, 16, 20, 25, 30, 40, 50, 60, 80, 100, 120, 160)
DEFAULT = DetectOptions().min_face_size
PLOT = ROOT / "docs/images/min-face-size.png"


def crowd() -> Image.Image:
    """Fill an image with rows of two portraits, each row larger than the one above."""
    image = Image.new("RGB", (WIDTH, sum(ROWS)))
    y = 0
    for row in ROWS:
        x = 0
        small = [
            photo.resize((row * photo.width // photo.height, row), Image.Resampling.LANCZOS) for photo in photographs()
        ]
        while x < WIDTH:
            for portrait in small:
                image.paste(portrait, (x, y))
                x += portrait.width
        y += row
    return image


def measure(pixels: RGB, rounds: int) -> dict[int, tuple[float, int]]:
    """Return the milliseconds of CPU time and the number of faces for each size."""
    detector = load_detector("openvino", EngineSettings())
    best: dict[int, tuple[float, int]] = {}
    for _ in range(rounds):
        for size in SIZES:
            began = time.process_time()
            faces = len(detector.detect(pixels, DetectOptions(size), Steps()))
            milliseconds = 1000 * (time.process_time() - began)
            best[size] = min(best.get(size, (float("inf"), faces)), (milliseconds, faces))
    return best


def table(figures: dict[int, tuple[float, int]]) -> str:
    """Return the figures as a table, with those of the default."""
    rows = [
        f"| {size} | {ms:.0f} | {ms / figures[DEFAULT][0]:.2f} | {faces} |" for size, (ms, faces) in figures.items()
    ]
    head = ["| min_face_size | CPU time, ms | of the default's | faces |", "| --- | --- | --- | --- |"]
    return "\n".join([*head, *rows])


def plot(figures: dict[int, tuple[float, int]], path: Path) -> None:
    """Plot time and faces over the size."""
    import matplotlib as mpl  # noqa: PLC0415 - slow, and of no use before there are figures

    mpl.use("agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    milliseconds, faces = zip(*figures.values(), strict=True)
    figure, left = plt.subplots(figsize=(7, 3.6), layout="constrained")
    left.plot(SIZES, milliseconds, "o-", color="#0b5fa5")
    left.set_xscale("log")
    left.set_xticks(SIZES, labels=map(str, SIZES))
    left.minorticks_off()
    left.set_xlabel("min_face_size, pixels")
    left.set_ylabel("CPU time, ms", color="#0b5fa5")
    left.set_ylim(bottom=0)
    left.axvline(DEFAULT, color="gray", linewidth=0.8, linestyle=":")
    left.annotate("default", (DEFAULT, left.get_ylim()[1]), (4, -12), textcoords="offset points", color="gray")
    right = left.twinx()
    right.plot(SIZES, faces, "s--", color="#b3541e")
    right.set_ylabel("faces found", color="#b3541e")
    right.set_ylim(bottom=0)
    left.set_title(f"a crowd on {WIDTH} x {sum(ROWS)} pixels", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, print the table and write the plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=PLOT, help="the plot's file")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    figures = measure(np.asarray(crowd()), arguments.rounds)
    print(table(figures))
    plot(figures, arguments.out)


if __name__ == "__main__":
    main()
