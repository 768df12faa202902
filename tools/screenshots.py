"""Takes the screenshots of the documents: `make screenshots`, or `make screenshots ARGS=page` for one of them.

It starts a stack as `make serve` does, and needs Chromium: apt-get install chromium.
"""

import io
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs/images"
PORTRAIT = ROOT / "tests/images/astronaut.webp"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
BASE_PORT, PORT = 20000, 20024
URL = f"http://localhost:{PORT}"
MAX_BYTES = 300_000  # per screenshot, since every clone of the repository downloads them
COLORS = 256  # in the palette of a screenshot that would otherwise be too large
WARM_UP = 6  # requests; the first ones of a worker are slower than the rest


@contextmanager
def running_stack() -> Iterator[None]:
    command = ["-m", "tools.serve", "--workers=2", f"--base-port={BASE_PORT}", f"--port={PORT}"]
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        if process.stdout is None or "facet answers at" not in process.stdout.readline():
            sys.exit("the stack did not start")
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def page() -> bytes:
    """Take a screenshot of the page with a face found."""
    if CHROMIUM is None:
        sys.exit("Chromium is missing: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        tab = browser.new_page(viewport={"width": 1200, "height": 760}, color_scheme="light", reduced_motion="reduce")
        for _turn in range(WARM_UP):
            tab.goto(URL)
            tab.locator("#files").set_input_files(PORTRAIT)
            tab.locator(".mark").wait_for()
        return tab.screenshot()


def annotated() -> bytes:
    """Show two responses of /annotate side by side: the portrait drawn and the portrait blurred."""
    responses = [
        httpx.post(f"{URL}/annotate?style={style}", content=PORTRAIT.read_bytes(), headers={"Accept": "image/png"})
        for style in ("boxes", "blur")
    ]
    drawn = [Image.open(io.BytesIO(response.raise_for_status().content)).resize((400, 400)) for response in responses]
    both = Image.new("RGB", (808, 400), "white")
    both.paste(drawn[0], (0, 0))
    both.paste(drawn[1], (408, 0))
    file = io.BytesIO()
    both.save(file, "PNG")
    return file.getvalue()


SCREENSHOTS = {"page": page, "annotated": annotated}


def save(name: str, screenshot: bytes) -> None:
    """Write a screenshot, with a palette if it would be too large."""
    image = Image.open(io.BytesIO(screenshot)).convert("RGB")
    path = IMAGES / f"{name}.png"
    image.save(path, optimize=True)
    if path.stat().st_size > MAX_BYTES:
        image.quantize(COLORS).save(path, optimize=True)
    if path.stat().st_size > MAX_BYTES:
        sys.exit(f"{path} has {path.stat().st_size} bytes, above {MAX_BYTES}")
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size} bytes")


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with running_stack():
        for name in sys.argv[1:] or SCREENSHOTS:
            save(name, SCREENSHOTS[name]())


if __name__ == "__main__":
    main()
