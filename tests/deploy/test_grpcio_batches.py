"""The script that compiles gRPC in batches, with a real compiler and linker, on sources that define the same names."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "requirements/grpcio-batches.sh"
LISTING = "src/python/grpcio/grpc_core_dependencies.py"
# one.cc and three.cc define the same name, and so do two.cc and four.cc.
SOURCES = {
    "one": 'static int own() { return 1; } extern "C" int one() { return own(); }',
    "two": 'static int other = 2; extern "C" int two() { return other; }',
    "three": 'static int own() { return 3; } extern "C" int three() { return own(); }',
    "four": 'static int other = 4; extern "C" int four() { return other; }',
}


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The parts of gRPC's source distribution that the script reads, in batches, and a compiler on the PATH."""
    folder, programs = tmp_path / "grpcio", tmp_path / "bin"
    (folder / "src/core").mkdir(parents=True)
    (folder / "src/python/grpcio").mkdir(parents=True)
    programs.mkdir()
    for name, text in SOURCES.items():
        (folder / f"src/core/{name}.cc").write_text(text)
    names = "".join(f"    'src/core/{name}',\n" for name in [*(f"{name}.cc" for name in SOURCES), "rest.c"])
    (folder / LISTING).write_text(f"CORE_SOURCE_FILES = [\n{names}]\n")
    (folder / "src/python/grpcio/_parallel_compile_patch.py").write_text("        _compile_single_file, objects\n")
    for program, zig in (("c++", "c++"), ("ld", "ld.lld")):
        (programs / program).write_text(f'#!/bin/sh\nexec {sys.executable} -m ziglang {zig} "$@"\n')
        (programs / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", str(tmp_path / "cache"))
    subprocess.run(["bash", str(SCRIPT), str(folder)], check=True)
    return folder


def compile_batch(distribution: Path) -> subprocess.CompletedProcess[str]:
    """Compile the first batch as setup.py does."""
    command = ["bash", str(SCRIPT), "-O2", "-fPIC", "-c", "batch-aa.cc", "-o", "batch-aa.o", "-fno-exceptions"]
    return subprocess.run(command, cwd=distribution, capture_output=True, text=True, check=False)


def test_batches_replace_the_sources(distribution: Path) -> None:
    """The list that setup.py imports has the batch instead of the C++ sources, and the C source as before."""
    assert (distribution / "batch-aa.cc").read_text() == "".join(f'#include "src/core/{n}.cc"\n' for n in SOURCES)
    listing = subprocess.run(
        [sys.executable, "-c", f"import runpy; print(*runpy.run_path('{LISTING}')['CORE_SOURCE_FILES'])"],
        cwd=distribution,
        capture_output=True,
        text=True,
        check=True,
    )
    assert listing.stdout.split() == ["batch-aa.cc", "src/core/rest.c"]


def test_sources_that_clash_are_compiled_separately(distribution: Path) -> None:
    """The batch's object contains all of them, and each keeps its own definitions."""
    done = compile_batch(distribution)
    assert done.returncode == 0, done.stderr
    subprocess.run(["ld", "-shared", "-o", "batch.so", "batch-aa.o"], cwd=distribution, check=True)
    library = ctypes.CDLL(str(distribution / "batch.so"))
    assert [getattr(library, name)() for name in SOURCES] == [1, 2, 3, 4]


def test_a_broken_source_ends_the_build(distribution: Path) -> None:
    """The error is the compiler's message for that source."""
    (distribution / "src/core/three.cc").write_text("int three() { return missing; }")
    done = compile_batch(distribution)
    assert done.returncode != 0
    assert "src/core/three.cc:1" in done.stderr
    assert "missing" in done.stderr
