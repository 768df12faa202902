"""The stack that the tests of this folder share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import httpx
import pytest
from PIL import Image

from tests.conftest import encode, wall_of_faces
from tests.stack.running import RunningStack, running_stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """The stack with four workers, one for all tests of the session; who harms it lets it heal."""
    with running_stack(tmp_path_factory.mktemp("stack") / "logs", "--workers=4") as running:
        yield running


@pytest.fixture(scope="session")
def client(stack: RunningStack) -> Iterator[httpx.Client]:
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
