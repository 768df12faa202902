"""The benchmarks run, and what they compare is the same work."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_detectors_benchmark_compares_engines_that_find_the_same(tmp_path: Path) -> None:
    """It prints a table, and writes a plot and the figures."""
    command = [sys.executable, "benchmarks/detector.py", "--quick", "--repeat=1", f"--out={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "| portrait 512x512 |" in done.stdout
    assert (tmp_path / "detector.png").read_bytes().startswith(b"\x89PNG")
    report = json.loads((tmp_path / "detector.json").read_text())
    for picture in report["pictures"]:
        assert picture["faces"]["openvino"] == picture["faces"]["onnxruntime"] == picture["faces"]["mtcnn package"] == 1
        assert set(picture["steps_ms"]) == {"pyramid", "pnet", "boxes", "nms", "crops", "rnet", "onet"}
        assert 0 < picture["outside_networks"] < 1 < picture["times_the_floor"]
        assert all(megabytes > 0 for megabytes in picture["peak_mb"].values())


def test_the_tiers_benchmark_finds_the_workers_the_dearest() -> None:
    """For each size of picture; it ends its stack."""
    command = [sys.executable, "benchmarks/tiers.py", "--seconds=1", "--callers=2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if " kB |" in line]
    assert [row[0].partition(",")[0] for row in rows] == ["320x240", "640x480", "1920x1080"]
    for _, rate, envoy, web, inference in rows:
        assert 0 < float(envoy) < float(inference)
        assert 0 < float(web) < float(inference)
        assert float(rate) > 0


def test_the_benchmark_of_min_face_size_shows_that_larger_finds_less(tmp_path: Path) -> None:
    """It prints a table and writes a plot."""
    command = [sys.executable, "benchmarks/tuning.py", "--rounds=1", f"--out={tmp_path / 'plot.png'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()[2:]]
    faces = [int(row[3]) for row in rows]
    assert faces == sorted(faces, reverse=True)
    assert faces[0] > 100 > faces[-1] > 0
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_the_benchmark_of_the_whole_path_compares_stacks_that_find_the_same_and_fills_its_pages(tmp_path: Path) -> None:
    """Each cell has both stacks, each way its costs, the growth its workers, and the report a row for each target."""
    for page in ("figures.md", "scaling.md"):
        shutil.copy(ROOT / "docs" / page, tmp_path)
    command = [sys.executable, "benchmarks/path.py", "--quick", f"--results={tmp_path}", f"--docs={tmp_path}"]
    subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    run = json.loads((tmp_path / "path.json").read_text())
    assert run["side_by_side"]["faces"] == {"640x480, one face": 1, "640x480, several": 6, "640x480, none": 0}
    cells = {(cell["stack"], cell["callers"]) for cell in run["side_by_side"]["cells"]}
    assert cells == {(stack, callers) for stack in ("baseline", "facet") for callers in (1, 8)}
    path = run["overhead"]["one_caller"]["the whole path"][0]
    assert all(path["cpu"][tier] >= 0 for tier in ("envoy", "web", "inference"))
    assert run["scale"]["rows"][0]["workers"] == len(run["scale"]["rows"][0]["samples"][0]["workers"]) == 3
    report = (tmp_path / "figures.md").read_text()
    assert report.count("| yes") + report.count("| **falls short** |") == 7
    assert "| 10,000 | " in (tmp_path / "scaling.md").read_text()
    for plot in ("callers.png", "scale.png"):
        assert (tmp_path / "images" / plot).read_bytes().startswith(b"\x89PNG")
