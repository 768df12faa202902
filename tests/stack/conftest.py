"""The stack that the tests of this folder share: processes, or containers with --compose."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import httpx
import matplotlib as mpl
import pytest
from facet.command.video import DrawnVideo, Frame
from PIL import Image
from playwright.sync_api import Browser

from tests.conftest import encode, wall_of_faces
from tests.stack.browser import FacetPage, File, chromium
from tests.stack.compose import ComposeStack, compose_stack
from tests.stack.running import RunningStack, running_stack


class FrontDoor(Protocol):
    """The interface of both kinds of stack, so that the same tests run against both."""

    @property
    def url(self) -> str:
        """The URL of the edge."""

    @property
    def edge(self) -> str:
        """The edge as a gRPC target."""

    def log_lines(self, service: str) -> list[dict[str, Any]]:
        """Parse the log of a service."""


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> FrontDoor:
    """The stack under test, of either kind."""
    found: FrontDoor = request.getfixturevalue("compose" if request.config.getoption("--compose") else "processes")
    return found


@pytest.fixture(scope="session")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A stack as `make serve` starts it, with four workers. Tests that damage it wait until it has recovered."""
    with running_stack(tmp_path_factory.mktemp("stack") / "logs", "--workers=4") as running:
        yield running


@pytest.fixture(scope="session")
def compose() -> Iterator[ComposeStack]:
    """A stack as `make up` starts it, with two workers. Tests that damage it wait until it has recovered."""
    with compose_stack("test", FACET_WORKERS="2") as running:
        yield running


@pytest.fixture(scope="session")
def client(stack: FrontDoor) -> Iterator[httpx.Client]:
    """An HTTP client for the stack."""
    with httpx.Client(base_url=stack.url, timeout=60) as http:
        yield http


@pytest.fixture(scope="session")
def slow_file(astronaut: Image.Image, face: Image.Image) -> bytes:
    """An image that takes a worker several seconds.

    For the fast engines it has fifty thousand faces. `tensorflow` would need terabytes for it; nine megapixels are slow
    enough.
    """
    if os.environ.get("FACET_ENGINE") == "tensorflow":
        return encode(astronaut.resize((3000, 3000)), "JPEG")
    return encode(wall_of_faces(face, 8000, 5000))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, per module: while Playwright runs, no test can run an event loop."""
    with chromium() as running:
        yield running


@pytest.fixture
def page(browser: Browser, stack: FrontDoor) -> Iterator[FacetPage]:
    """The page, just opened. It must not log errors or load anything from elsewhere."""
    with FacetPage(browser, stack.url) as opened:
        yield opened
        assert opened.errors == []


@pytest.fixture(scope="session")
def portrait(astronaut_file: bytes) -> File:
    """The portrait as a file."""
    return ("astronaut.webp", "image/webp", astronaut_file)


@pytest.fixture(scope="session")
def pair(astronaut: Image.Image) -> File:
    """A wide image of the same face twice; the second is squeezed, and has a lower confidence."""
    both = Image.new("RGB", (1000, 520), "white")
    both.paste(astronaut, (0, 0))
    both.paste(astronaut.resize((300, 400)), (560, 60))
    return ("pair.png", "image/png", encode(both))


@pytest.fixture(scope="session")
def hopper() -> File:
    """Grace Hopper's portrait."""
    return ("hopper.jpg", "image/jpeg", (Path(mpl.get_data_path()) / "sample_data/grace_hopper.jpg").read_bytes())


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory, face: Image.Image) -> Path:
    """A video of thirty frames with a moving face, at 25 frames per second."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    with DrawnVideo(path) as video:
        for number in range(30):
            frame = Image.new("RGB", (200, 160))
            frame.paste(face, (2 * number, 10))
            video.write(Frame(number, number / 25, None), encode(frame))
    return path


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, face: Image.Image) -> Path:
    """Sixty images in two subfolders, with two, one or no faces; one of them is damaged."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(60):
        image = face.resize((60 + number, 66 + number))
        if number % 3 == 0:
            image = Image.new("RGB", (60 + number, 64), "teal")
        elif number % 3 == 1:
            pair = Image.new("RGB", (2 * image.width, image.height))
            pair.paste(image)
            pair.paste(image, (image.width, 0))
            image = pair
        path = folder / ("odd" if number % 2 else "even") / f"{number:02}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode(image, "JPEG", quality=95))
    (folder / "even/04.jpg").write_bytes(b"no image")
    return folder
