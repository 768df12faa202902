"""Packages declare the requirements of their locks."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def declared(name: str) -> set[str]:
    """Read the requirements of an .in file, without the reasons."""
    lines = (line.partition("#")[0].strip() for line in (ROOT / f"requirements/{name}.in").read_text().splitlines())
    return {line for line in lines if line and not line.startswith("-")}


def test_the_workers_package_is_built_from_the_lock_of_builds() -> None:
    """With build isolation and without."""
    build = tomllib.loads((ROOT / "services/inference/pyproject.toml").read_text())["build-system"]
    assert set(build["requires"]) == {line for line in declared("build") if not line.startswith("editables")}


def test_no_locked_package_reports_usage_to_its_makers() -> None:
    """Openvino requires its telemetry package but works without it. OpenTelemetry reports to the operator only."""
    for lock in (ROOT / "requirements").glob("*.txt"):
        text = lock.read_text().replace("opentelemetry", "")
        assert lock.name == "excludes.txt" or "telemetry" not in text, lock


@pytest.mark.parametrize("name", ["inference", "web"])
def test_a_service_depends_on_the_packages_of_its_lock(name: str) -> None:
    """Directly or through `telemetry`."""
    needed = {
        requirement
        for package in (f"services/{name}", "telemetry")
        for requirement in tomllib.loads((ROOT / package / "pyproject.toml").read_text())["project"]["dependencies"]
    }
    assert needed == declared(name) | {"facet-protos", "facet-telemetry"}
