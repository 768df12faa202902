"""Takes the pictures of the documents: `make screenshots`, or `make screenshots ARGS=page` for one of them.

It starts a stack as `make serve` does. It needs Chromium and, for the dashboard, Prometheus: apt-get install both.
"""

from __future__ import annotations

import io
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
from PIL import Image
from playwright.sync_api import sync_playwright

from tools import dashboard as board

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs/images"
PORTRAIT = ROOT / "tests/images/astronaut.webp"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
BASE_PORT, PORT = 20000, 20024
URL = f"http://localhost:{PORT}"
TARGETS = {"facet-web": BASE_PORT + 1, "facet-inference": BASE_PORT + 5, "facet-envoy": BASE_PORT + 6}
PROMETHEUS_PORT = BASE_PORT + 25
MAX_BYTES = 300_000  # of each picture: a clone of the repository brings them all
COLOURS = 256  # of a palette
WARM_UP = 6  # pictures; the times of a worker's first ones are not those of the rest
DASHBOARD_SECONDS = 360  # the longest window of a panel, and a minute more


@contextmanager
def running_stack() -> Iterator[psutil.Process]:
    """Start a stack of processes, and stop it."""
    command = ["-m", "tools.serve", "--workers=2", f"--base-port={BASE_PORT}", f"--port={PORT}"]
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        if process.stdout is None or "facet answers at" not in process.stdout.readline():
            sys.exit("the stack did not start")
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def page(_: psutil.Process) -> bytes:
    """Photograph the page for people, with a face found."""
    if CHROMIUM is None:
        sys.exit("there is no Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        tab = browser.new_page(viewport={"width": 1200, "height": 760}, color_scheme="light", reduced_motion="reduce")
        for _turn in range(WARM_UP):
            tab.goto(URL)
            tab.locator("#files").set_input_files(PORTRAIT)
            tab.locator(".mark").wait_for()
        return tab.screenshot()


def annotated(_: psutil.Process) -> bytes:
    """Lay the portrait drawn and the portrait blurred beside each other, as /annotate gives them."""
    answers = [
        httpx.post(f"{URL}/annotate?style={style}", content=PORTRAIT.read_bytes(), headers={"Accept": "image/png"})
        for style in ("boxes", "blur")
    ]
    drawn = [Image.open(io.BytesIO(answer.raise_for_status().content)).resize((400, 400)) for answer in answers]
    both = Image.new("RGB", (808, 400), "white")
    both.paste(drawn[0], (0, 0))
    both.paste(drawn[1], (408, 0))
    file = io.BytesIO()
    both.save(file, "PNG")
    return file.getvalue()


def dashboard(stack: psutil.Process) -> bytes:
    """Draw the dashboard of some minutes under load, in which a worker is killed."""
    if shutil.which("prometheus") is None:
        sys.exit("there is no Prometheus: apt-get install prometheus")
    targets = {job: f"127.0.0.1:{port}" for job, port in TARGETS.items()}
    pictures = [PORTRAIT.read_bytes(), board.enlarged(PORTRAIT)]
    with (
        tempfile.TemporaryDirectory() as folder,
        board.prometheus(Path(folder), PROMETHEUS_PORT, targets) as prometheus,
        board.callers(URL, pictures),
    ):
        time.sleep(DASHBOARD_SECONDS / 2)
        next(child for child in stack.children(recursive=True) if "inference.process.worker" in child.cmdline()).kill()
        time.sleep(DASHBOARD_SECONDS / 2)
        failures = board.value(prometheus, "sum(facet_worker_failures_total)")
        if failures != 1:
            sys.exit(f"one worker was to fail, and {failures:g} have: something disturbed the stack")
        return board.draw(prometheus, DASHBOARD_SECONDS - 60)


PICTURES = {"page": page, "annotated": annotated, "dashboard": dashboard}


def save(name: str, picture: bytes) -> None:
    """Write a picture, as a palette if it would be too large."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    path = IMAGES / f"{name}.png"
    image.save(path, optimize=True)
    if path.stat().st_size > MAX_BYTES:
        image.quantize(COLOURS).save(path, optimize=True)
    if path.stat().st_size > MAX_BYTES:
        sys.exit(f"{path} has {path.stat().st_size} bytes, above {MAX_BYTES}")
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size} bytes")


def main() -> None:
    """Take the pictures that are named, or all."""
    IMAGES.mkdir(exist_ok=True)
    with running_stack() as stack:
        for name in sys.argv[1:] or PICTURES:
            save(name, PICTURES[name](stack))


if __name__ == "__main__":
    main()
