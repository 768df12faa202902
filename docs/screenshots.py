"""Takes the pictures of the documents: `make screenshots`. It needs Chromium (apt-get install chromium).

It starts a stack as `make serve` does, or takes the one at the address that it is given.
"""

from __future__ import annotations

import io
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs/images"
PORTRAIT = ROOT / "tests/images/astronaut.webp"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
BASE_PORT, PORT = 20000, 20024
MAX_BYTES = 300_000  # of each picture: a clone of the repository brings them all
COLOURS = 256  # of a palette
WARM_UP = 6  # pictures; the times of a worker's first ones are not those of the rest


@contextmanager
def running_stack() -> Iterator[str]:
    """Start a stack of processes, give its address, and stop it."""
    command = ["deploy/serve.py", "--workers=2", f"--base-port={BASE_PORT}", f"--port={PORT}"]
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        if process.stdout is None or "facet answers at" not in process.stdout.readline():
            sys.exit("the stack did not start")
        yield f"http://localhost:{PORT}"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def page(browser: Browser, url: str) -> bytes:
    """Photograph the page for people, with a face found."""
    tab = browser.new_page(viewport={"width": 1200, "height": 760}, color_scheme="light")
    for _ in range(WARM_UP):
        tab.goto(url)
        tab.locator("#files").set_input_files(PORTRAIT)
        tab.locator(".mark").wait_for()
    return tab.screenshot()


PICTURES = {"page": page}


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


def main(url: str) -> None:
    """Take all pictures of the stack at this address."""
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        for name, take in PICTURES.items():
            save(name, take(browser, url))
        browser.close()


if __name__ == "__main__":
    if CHROMIUM is None:
        sys.exit("there is no Chromium: apt-get install chromium")
    if sys.argv[1:]:
        main(sys.argv[1])
    else:
        with running_stack() as address:
            main(address)
