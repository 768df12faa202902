"""The stack that the tests of this folder share: processes, or with --compose containers."""

from __future__ import annotations

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
    """What both kinds of stack have, so that the same tests run against both."""

    @property
    def url(self) -> str:
        """Where HTTP goes in."""

    @property
    def edge(self) -> str:
        """Where gRPC goes in, as a target."""

    def log_lines(self, service: str) -> list[dict[str, Any]]:
        """Read a service's log."""


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> FrontDoor:
    """The stack under test, whatever it consists of."""
    found: FrontDoor = request.getfixturevalue("compose" if request.config.getoption("--compose") else "processes")
    return found


@pytest.fixture(scope="session")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """The stack as `make serve` starts it, with four workers; who harms it lets it heal."""
    with running_stack(tmp_path_factory.mktemp("stack") / "logs", "--workers=4") as running:
        yield running


@pytest.fixture(scope="session")
def compose() -> Iterator[ComposeStack]:
    """The stack as `make up` starts it, with two workers in a container; who harms it lets it heal."""
    with compose_stack("test", FACET_WORKERS="2") as running:
        yield running


@pytest.fixture(scope="session")
def client(stack: FrontDoor) -> Iterator[httpx.Client]:
    """An HTTP client at the front door."""
    with httpx.Client(base_url=stack.url, timeout=60) as http:
        yield http


@pytest.fixture(scope="session")
def slow_file(astronaut: Image.Image, face: Image.Image) -> bytes:
    """A picture that takes a worker seconds.

    For the fast engines that is a wall of fifty thousand faces; `tensorflow` would need terabytes for it, and takes
    seconds for nine megapixels.
    """
    if os.environ.get("FACET_ENGINE") == "tensorflow":
        return encode(astronaut.resize((3000, 3000)), "JPEG")
    return encode(wall_of_faces(face, 8000, 5000))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium. Not for the session: while Playwright runs, no other test could run an event loop."""
    with chromium() as running:
        yield running


@pytest.fixture
def page(browser: Browser, stack: FrontDoor) -> Iterator[FacetPage]:
    """The page for people, just opened; at the end nothing was complained of, and nothing loaded from elsewhere."""
    with FacetPage(browser, stack.url) as opened:
        yield opened
        assert opened.complaints == []


@pytest.fixture(scope="session")
def portrait(astronaut_file: bytes) -> File:
    """The astronaut, as a file."""
    return ("astronaut.webp", "image/webp", astronaut_file)


@pytest.fixture(scope="session")
def pair(astronaut: Image.Image) -> File:
    """One face twice, wider than high; the second is squeezed, and less of a face to the model."""
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
    """Thirty frames with a face that moves, 25 a second."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    with DrawnVideo(path) as video:
        for number in range(30):
            frame = Image.new("RGB", (200, 160))
            frame.paste(face, (2 * number, 10))
            video.write(Frame(number, number / 25, None), encode(frame))
    return path


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, face: Image.Image) -> Path:
    """Sixty pictures in two sub-folders, one of them damaged: with two faces, with one, and with none."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(60):
        picture = face.resize((60 + number, 66 + number))
        if number % 3 == 0:
            picture = Image.new("RGB", (60 + number, 64), "teal")
        elif number % 3 == 1:
            pair = Image.new("RGB", (2 * picture.width, picture.height))
            pair.paste(picture)
            pair.paste(picture, (picture.width, 0))
            picture = pair
        path = folder / ("odd" if number % 2 else "even") / f"{number:02}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode(picture, "JPEG", quality=95))
    (folder / "even/04.jpg").write_bytes(b"no picture")
    return folder
