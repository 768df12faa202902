"""Arrows point one way: who may import whom."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "services"
CLIENT = "../client/src/facet"


def imports(path: Path) -> set[str]:
    """Name every module that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def files(package: str) -> list[Path]:
    """List the sources of a package; there are some."""
    found = sorted((SOURCES / package).rglob("*.py"))
    assert found
    return found


def offenders(package: str, *forbidden: str) -> list[str]:
    """Name the files of a package that import what they must not."""
    return [
        f"{path.name}: {name}"
        for path in files(package)
        for name in imports(path)
        if any(name == module or name.startswith(f"{module}.") for module in forbidden)
    ]


def test_the_detector_knows_no_transport_no_settings_and_nothing_else_of_ours() -> None:
    """`inference.mtcnn` could be used by anyone."""
    assert offenders("inference/src/inference/mtcnn", "grpc", "protos", "pydantic_settings", "logging", "PIL") == []
    ours = {
        name
        for path in files("inference/src/inference/mtcnn")
        for name in imports(path)
        if name.startswith("inference.") and not name.startswith("inference.mtcnn")
    }
    assert ours == set()


def test_the_gateway_knows_the_contract_and_nothing_of_the_workers() -> None:
    """And the workers nothing of the gateway."""
    assert offenders("web/src/web", "inference", "numpy", "PIL") == []
    assert offenders("inference/src/inference", "web", "flask") == []


def test_only_the_two_traces_know_opentelemetry() -> None:
    """Whoever imports it does so when traces are on."""
    for package in ("inference/src/inference", "web/src/web"):
        assert {found.partition(":")[0] for found in offenders(package, "opentelemetry")} == {"traces.py"}


def test_the_client_knows_the_contract_and_is_known_to_nobody() -> None:
    """One of its modules, which is imported for `--local` alone, knows the detector."""
    assert {name.partition(":")[0] for name in offenders(CLIENT, "inference")} == {"local.py"}
    assert offenders(CLIENT, "web", "flask", "numpy", "pydantic") == []
    assert offenders("inference/src/inference", "facet") == offenders("web/src/web", "facet") == []


def test_only_the_settings_read_the_environment() -> None:
    """Setting a variable for a library is another matter: `environ[...] = ...` is allowed."""
    for package in ("inference/src/inference", "web/src/web"):
        for path in files(package):
            text = path.read_text()
            assert "getenv" not in text, path
            assert not re.search(r"os\.environ(?!\[[^]]+\] = )", text), path


@pytest.mark.parametrize("name", ["utils", "common", "helpers", "core"])
def test_no_module_is_named_after_nothing(name: str) -> None:
    """A name says what is in it."""
    assert not [*SOURCES.rglob(f"{name}*"), *(ROOT / "client").rglob(f"{name}*")]


def test_the_main_path_is_short() -> None:
    """A request is followed through files of at most about 200 lines."""
    for name in ("web/src/web/routes.py", "web/src/web/inference_client.py", "inference/src/inference/rpc/servicer.py"):
        assert len((SOURCES / name).read_text().splitlines()) <= 210, name
    for name in ("imaging/decode.py", "mtcnn/detector.py"):
        assert len((SOURCES / "inference/src/inference" / name).read_text().splitlines()) <= 210, name
