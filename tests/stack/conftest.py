"""The stack that the tests of this folder share: processes, or with --compose containers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
from PIL import Image

from tests.conftest import encode, wall_of_faces
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
