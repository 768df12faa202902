"""Arrows point one way: who may import whom."""

import ast
import re
import subprocess
import sys
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
    """List the source files of a package, or the one file of a module."""
    path = SOURCES / package
    found = [path] if path.is_file() else sorted(path.rglob("*.py"))
    assert found
    return found


def offenders(package: str, *forbidden: str) -> list[str]:
    """Name the files of a package that import a forbidden module, with the module."""
    return [
        f"{path.name}: {name}"
        for path in files(package)
        for name in imports(path)
        if any(name == module or name.startswith(f"{module}.") for module in forbidden)
    ]


def parts_of_inference(package: str) -> set[str]:
    """Name the parts of `inference` (its folders and top modules) that a package imports, other than its own."""
    names = {name for path in files(package) for name in imports(path) if name.startswith("inference.")}
    return {name.split(".")[1] for name in names} - {Path(package).stem}


@pytest.mark.parametrize(
    ("package", "parts"),
    [
        ("mtcnn", set()),
        ("imaging", {"mtcnn"}),
        ("examination.py", {"imaging", "mtcnn"}),
        ("rpc", {"examination", "imaging", "mtcnn"}),
        ("process/supervisor.py", set()),
    ],
)
def test_the_arrows_of_the_inference_service_point_one_way(package: str, parts: set[str]) -> None:
    """The order is rpc, examination, imaging, mtcnn: no part imports one before it."""
    assert parts_of_inference(f"inference/src/inference/{package}") <= parts


@pytest.mark.parametrize("package", ["mtcnn", "imaging", "examination.py"])
def test_the_domain_knows_no_transport_and_no_settings(package: str) -> None:
    """`facet detect --local` uses it without the service."""
    transport = ("grpc", "grpc_health", "grpc_status", "google", "protos", "pydantic_settings", "logging")
    assert offenders(f"inference/src/inference/{package}", *transport) == []
    assert offenders("inference/src/inference/mtcnn", "PIL") == []


def test_the_supervisor_starts_without_grpc_and_without_a_model_runtime() -> None:
    """Each worker is a new interpreter, which imports them itself."""
    program = "import sys, inference.__main__; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert "inference" in imported
    heavy = {"grpc", "openvino", "onnxruntime", "tensorflow", "keras", "mtcnn", "numpy", "PIL", "opentelemetry"}
    assert imported.isdisjoint(heavy)


def test_the_gateway_knows_the_contract_and_nothing_of_the_workers() -> None:
    """The workers know nothing of the gateway either."""
    assert offenders("web/src/web", "inference", "numpy", "PIL") == []
    assert offenders("inference/src/inference", "web", "flask") == []


def test_only_the_two_traces_know_opentelemetry() -> None:
    """They are imported only when traces are on."""
    for package in ("inference/src/inference", "web/src/web"):
        known = offenders(package, "opentelemetry", "telemetry.traces")
        assert {found.partition(":")[0] for found in known} == {"traces.py"}


def test_the_telemetry_knows_neither_service() -> None:
    """It does not know gunicorn and Flask either, and only its traces know gRPC and OpenTelemetry."""
    package = "../telemetry/src/telemetry"
    assert offenders(package, "inference", "web", "protos", "flask", "gunicorn", "telemetry.traces") == []
    assert {found.partition(":")[0] for found in offenders(package, "grpc", "opentelemetry")} == {"traces.py"}


def test_the_client_knows_the_contract_and_is_known_to_nobody() -> None:
    """One of its modules, imported only for `--local`, knows the detector."""
    assert {name.partition(":")[0] for name in offenders(CLIENT, "inference", "pydantic")} == {"local.py"}
    assert offenders(CLIENT, "web", "flask", "numpy") == []
    assert offenders("inference/src/inference", "facet") == offenders("web/src/web", "facet") == []


def test_only_the_settings_read_the_environment() -> None:
    """They may set a variable for a library: `environ[...] = ...` is allowed."""
    for package in ("inference/src/inference", "web/src/web", "../telemetry/src/telemetry"):
        for path in files(package):
            text = "" if path.name == "settings.py" else path.read_text()
            assert "getenv" not in text, path
            assert not re.search(r"os\.environ(?!\[[^]]+\] = )", text), path


@pytest.mark.parametrize("name", ["utils", "common", "helpers", "core"])
def test_no_module_is_named_after_nothing(name: str) -> None:
    """A name says what is in it."""
    assert not [*SOURCES.rglob(f"{name}*"), *(ROOT / "client").rglob(f"{name}*")]
