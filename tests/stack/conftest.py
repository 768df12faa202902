"""The stack that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

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
