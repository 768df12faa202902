"""The stack under attack. No other tests use it, so an attack cannot disturb them."""

from collections.abc import Iterator

import pytest

from tests.stack.running import RunningStack, running_stack


@pytest.fixture(scope="session")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A stack as `make serve` starts it, with two workers."""
    with running_stack(tmp_path_factory.mktemp("attacked") / "logs", "--workers=2") as running:
        yield running
