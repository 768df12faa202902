"""Draws what the dashboard shows of a stack, from its own queries and a real Prometheus. Grafana would draw it nicer.

It is for tools/screenshots.py: Grafana is not something that can be had everywhere, its queries and their answers are.
"""

from __future__ import annotations

import io
import json
import math
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import matplotlib as mpl
import yaml
from matplotlib.figure import Figure
from PIL import Image

ROOT = Path(__file__).parents[1]
DASHBOARD = ROOT / "deploy/grafana/dashboards/facet.json"
STEP_SECONDS = 2
CELL = 0.46  # inches: of the 24 columns, and of a row
UNITS = {"s": (1000, " ms"), "percentunit": (100, " %"), "reqps": (1, "/s"), "short": (1, "")}
GROUND, PANEL, TEXT, FAINT = "#111217", "#181b1f", "#d0d2d9", "#8e929b"
COLOURS = ["#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#fade2a", "#37872d", "#e0b400"]

Line = tuple[str, list[float], list[float]]  # its name in the legend, minutes before now, values


@contextmanager
def prometheus(folder: Path, port: int, targets: dict[str, str]) -> Iterator[str]:
    """Run a Prometheus with the rules of the stack, which scrapes each job's target, and give its address."""
    rules = str(ROOT / "deploy/prometheus/rules.yml")
    jobs = [{"job_name": job, "static_configs": [{"targets": [target]}]} for job, target in targets.items()]
    interval = f"{STEP_SECONDS}s"
    config = {
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "rule_files": [rules],
        "scrape_configs": jobs,
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{port}"
    arguments = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "prometheus.log").open("wb") as log:
        command = [shutil.which("prometheus") or "prometheus", *arguments, f"--web.listen-address={address}"]
        process = subprocess.Popen(command, stderr=log)
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait()


@contextmanager
def callers(url: str, pictures: list[bytes]) -> Iterator[None]:
    """Post pictures and something that is none, at a rate that rises and falls."""
    stop = threading.Event()

    def call(number: int) -> None:
        with httpx.Client(timeout=30, trust_env=False) as http:
            turn = 0
            while not stop.wait(0.15 + 0.12 * math.sin(time.monotonic() / 25 + number)):
                turn += 1
                body = b"no picture" if turn % 40 == 0 else pictures[(turn + number) % len(pictures)]
                http.post(f"{url}/predict", content=body, headers={"Content-Type": "image/jpeg"})

    threads = [threading.Thread(target=call, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def enlarged(picture: Path) -> bytes:
    """Give a picture at twice its size, as a JPEG."""
    with Image.open(picture) as small:
        file = io.BytesIO()
        small.convert("RGB").resize((2 * small.width, 2 * small.height)).save(file, "JPEG")
    return file.getvalue()


def draw(prometheus_url: str, seconds: float) -> bytes:
    """Give the dashboard of the last so many seconds as a PNG."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    end = time.time()
    with mpl.rc_context({"font.size": 7, "text.color": TEXT, "axes.labelcolor": TEXT}):
        figure = Figure(figsize=(24 * CELL, rows * CELL * 0.62), facecolor=GROUND)
        for panel in panels:
            place = panel["gridPos"]
            corner = (place["x"] / 24 + 0.002, 1 - (place["y"] + place["h"]) / rows + 0.003)
            frame = figure.add_axes((*corner, place["w"] / 24 - 0.004, place["h"] / rows - 0.006), facecolor=PANEL)
            frame.set(xticks=[], yticks=[])
            frame.text(0.02, 0.97, panel["title"], transform=frame.transAxes, va="top", weight="bold")
            lines = [line for target in panel["targets"] for line in _ask(prometheus_url, target, end - seconds, end)]
            (_stat if panel["type"] == "stat" else _plot)(frame, lines, panel)
        file = io.BytesIO()
        figure.savefig(file, dpi=110)
    return file.getvalue()


def value(prometheus_url: str, expression: str) -> float:
    """Evaluate an expression that has one value."""
    url = f"{prometheus_url}/api/v1/query"
    answer = httpx.get(url, params={"query": expression}, trust_env=False).raise_for_status().json()
    (series,) = answer["data"]["result"]
    return float(series["value"][1])


def _ask(prometheus_url: str, target: dict[str, Any], start: float, end: float) -> list[Line]:
    query = {"query": target["expr"], "start": start, "end": end, "step": STEP_SECONDS}
    answer = httpx.get(f"{prometheus_url}/api/v1/query_range", params=query, trust_env=False).raise_for_status().json()
    lines = []
    for series in answer["data"]["result"]:
        name = _legend(target["legendFormat"], series["metric"])
        times, values = zip(*series["values"], strict=True)
        lines.append((name, [(time - end) / 60 for time in times], [float(value) for value in values]))
    return lines


def _legend(form: str, labels: dict[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda match: labels.get(match[1], ""), form)


def _stat(frame: Any, lines: list[Line], panel: dict[str, Any]) -> None:
    scale, unit = UNITS[panel["fieldConfig"]["defaults"]["unit"]]
    last = lines[0][2][-1] * scale if lines else math.nan
    number = "no data" if math.isnan(last) else f"{last:,.0f}{unit}" if last >= 100 else f"{last:.3g}{unit}"  # noqa: PLR2004
    frame.text(0.5, 0.42, number, transform=frame.transAxes, ha="center", va="center", size=16, color=COLOURS[0])


def _plot(frame: Any, lines: list[Line], panel: dict[str, Any]) -> None:
    scale, unit = UNITS[panel["fieldConfig"]["defaults"]["unit"]]
    stacked = "stacking" in panel["fieldConfig"]["defaults"].get("custom", {})
    box = frame.get_position()
    axes = frame.figure.add_axes(
        (box.x0 + 0.1 * box.width, box.y0 + 0.24 * box.height, 0.87 * box.width, 0.58 * box.height), facecolor=PANEL
    )
    if stacked and lines:
        times = sorted({time for _, times, _ in lines for time in times})
        heights = [[scale * value for value in _values_at(times, line)] for line in lines]
        axes.stackplot(times, heights, labels=[name for name, _, _ in lines], colors=COLOURS, alpha=0.6)
    else:
        for (name, times, values), colour in zip(lines, COLOURS, strict=False):
            axes.plot(times, [value * scale for value in values], label=name, color=colour, linewidth=1)
    axes.set_ylim(bottom=0)
    axes.set_axisbelow(True)
    axes.tick_params(colors=FAINT, length=0, labelsize=6)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}{unit}")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} min")
    axes.grid(color="#2c3235", linewidth=0.5)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if lines:
        columns = panel["gridPos"]["w"] // 3 + 2
        axes.legend(
            loc="upper left", bbox_to_anchor=(-0.08, -0.14), ncols=columns, frameon=False, labelcolor=TEXT, fontsize=6
        )


def _values_at(times: list[float], line: Line) -> list[float]:
    """Give a line's values at these times, 0 where it has none."""
    values = dict(zip(line[1], line[2], strict=True))
    return [values.get(time, 0.0) for time in times]
