"""What a package declares is what its lock was made from."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def declared(name: str) -> set[str]:
    """Read the requirements of an .in file, without the reasons."""
    lines = (line.partition("#")[0].strip() for line in (ROOT / f"requirements/{name}.in").read_text().splitlines())
    return {line for line in lines if line and not line.startswith("-")}


def test_the_workers_package_is_built_with_what_its_lock_holds() -> None:
    """In isolation or not."""
    build = tomllib.loads((ROOT / "services/inference/pyproject.toml").read_text())["build-system"]
    assert set(build["requires"]) == {line for line in declared("build") if not line.startswith("editables")}


def test_nothing_that_reports_to_its_makers_is_locked() -> None:
    """Openvino asks for its telemetry package, and works without; OpenTelemetry reports to whoever runs facet."""
    for lock in (ROOT / "requirements").glob("*.txt"):
        text = lock.read_text().replace("opentelemetry", "")
        assert lock.name == "excludes.txt" or "telemetry" not in text, lock


@pytest.mark.parametrize("name", ["inference", "web"])
def test_a_service_depends_on_what_its_lock_holds(name: str) -> None:
    """Itself, or through `telemetry`."""
    needed = {
        requirement
        for package in (f"services/{name}", "telemetry")
        for requirement in tomllib.loads((ROOT / package / "pyproject.toml").read_text())["project"]["dependencies"]
    }
    assert needed == declared(name) | {"facet-protos", "facet-telemetry"}
