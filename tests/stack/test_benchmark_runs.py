"""The benchmarks that start processes or stacks run, and compare the same work."""

import json
import subprocess
import sys
from pathlib import Path

from whole_path.overhead import WHOLE

from tests.stack.running import ROOT


def run(*command: str | Path) -> str:
    """Run a benchmark and return its output."""
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_detectors_benchmark_compares_engines_that_find_the_same(tmp_path: Path) -> None:
    """It prints a table, writes a plot and saves the figures."""
    said = run("benchmarks/detector.py", "--quick", "--repeat=1", f"--out={tmp_path}")
    assert "| portrait 512x512 |" in said
    assert (tmp_path / "detector.png").read_bytes().startswith(b"\x89PNG")
    report = json.loads((tmp_path / "detector.json").read_text())
    for image in report["images"]:
        assert image["faces"]["openvino"] == image["faces"]["onnxruntime"] == image["faces"]["mtcnn package"] == 1
        assert set(image["steps_ms"]) == {"pyramid", "pnet", "boxes", "nms", "crops", "rnet", "onet"}
        assert 0 < image["outside_networks"] < 1 < image["times_the_floor"]
        assert all(megabytes > 0 for megabytes in image["peak_mb"].values())


def test_the_tiers_benchmark_attributes_most_cpu_time_to_the_workers() -> None:
    """For each size of image, the workers need more CPU time than Envoy and the gateway."""
    said = run("benchmarks/tiers.py", "--seconds=1", "--callers=2")
    rows = [line.strip("| ").split(" | ") for line in said.splitlines() if " kB |" in line]
    assert [row[0].partition(",")[0] for row in rows] == ["320x240", "640x480", "1920x1080"]
    for _, rate, envoy, web, inference in rows:
        assert 0 < float(envoy) < float(inference)
        assert 0 < float(web) < float(inference)
        assert float(rate) > 0


def test_the_benchmark_of_min_face_size_shows_that_larger_finds_less(tmp_path: Path) -> None:
    """It prints the faces found for each size, and writes a plot."""
    said = run("benchmarks/tuning.py", "--rounds=1", f"--out={tmp_path / 'plot.png'}")
    rows = [line.strip("| ").split(" | ") for line in said.splitlines()[2:]]
    faces = [int(row[3]) for row in rows]
    assert faces == sorted(faces, reverse=True)
    assert faces[0] > 100 > faces[-1] > 0
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_the_benchmark_of_the_whole_path_compares_equal_stacks_and_fills_its_pages(tmp_path: Path) -> None:
    """Its figures cover both stacks, all tiers and all workers; the report has a row for each target."""
    docs = tmp_path / "docs"
    docs.mkdir()
    pages = {"path": docs / "figures.md", "scaling": docs / "scaling.md", "headline": tmp_path / "README.md"}
    for section, page in pages.items():
        page.write_text(f"<!-- {section}: make bench -->\n<!-- end of {section} -->\n")
    run("benchmarks/path.py", "--quick", f"--results={tmp_path}", f"--docs={docs}")
    measured = json.loads((tmp_path / "path.json").read_text())
    both = measured["side_by_side"]
    assert both["faces"] == {"640x480, one face": 1, "640x480, several": 6, "640x480, none": 0}
    cells = {(cell["stack"], cell["callers"]) for cell in both["cells"]}
    assert cells == {(stack, callers) for stack in ("baseline", "facet") for callers in (1, 8)}
    assert all(0 < cell["busiest"] <= 1 for cell in both["cells"])
    busy = measured["overhead"]["busy"][WHOLE][0]
    assert all(busy["cpu"][tier] > 0 for tier in ("envoy", "web", "inference"))
    row = measured["scale"]["rows"][0]
    assert row["workers"] == len(row["samples"][0]["workers"]) == 3
    report = pages["path"].read_text()
    assert report.count("| yes") + report.count("| **falls short**") == 8
    assert all(measured["machine"] in page.read_text() for page in pages.values())
    assert "| 10,000 | " in pages["scaling"].read_text()
    assert "| memory, same number of workers | 0." in pages["headline"].read_text()
    for plot in ("callers.png", "scale.png"):
        assert (docs / "images" / plot).read_bytes().startswith(b"\x89PNG")
