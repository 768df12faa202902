"""`make serve`: one command, one line with the address, and nothing left behind."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from tests.stack.running import ROOT, RunningStack, command_of, free_base_port, gone, wait_for

READY = ".serve/venv/ready"


@pytest.fixture(scope="module", autouse=True)
def serve_environment() -> None:
    """What `make serve` runs on, set up before the tests wait for it."""
    subprocess.run(["make", READY], cwd=ROOT, check=True)


class MakeServe:
    """`make serve` as a person at a terminal runs it: in a process group, to which Ctrl-C goes."""

    def __init__(self, base: int, output: Path, **settings: str) -> None:
        self.url = f"http://127.0.0.1:{base + 24}"
        self._output = output
        self._seen: set[psutil.Process] = set()
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                ["make", "serve", f"PORT={base + 24}", f"BASE_PORT={base}", "WORKERS=1"],
                cwd=ROOT,
                env=os.environ | settings,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                process_group=0,
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    def look(self) -> set[psutil.Process]:
        """Remember every process that belongs to it."""
        if self.process.poll() is None:
            self._seen |= set(psutil.Process(self.process.pid).children(recursive=True))
        return self._seen

    def wait_for_line(self) -> None:
        wait_for(lambda: (self.look(), "facet answers at" in self.output)[1], "the line with the address")
        self.look()

    def ctrl_c(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> int:
        wait_for(lambda: (self.look(), self.process.poll() is not None)[1], "make serve ends")
        return self.process.returncode

    def nothing_is_left(self) -> bool:
        return all(gone(process) for process in self._seen)


@contextmanager
def make_serve(base: int, folder: Path, **settings: str) -> Iterator[MakeServe]:
    serve = MakeServe(base, folder / "output", **settings)
    try:
        yield serve
    finally:
        for process in serve.look():
            if not gone(process):
                process.kill()
        serve.process.kill()
        serve.process.wait()


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_one_line_says_where_it_answers_and_ctrl_c_leaves_nothing(tmp_path: Path, face_file: bytes) -> None:
    """The service is ready when the line appears; Ctrl-C stops everything."""
    base = free_base_port()
    with make_serve(base, tmp_path) as serve:
        serve.wait_for_line()
        assert f"facet answers at http://localhost:{base + 24} " in serve.output
        response = httpx.post(f"{serve.url}/predict", files={"image": ("a.png", face_file)}, timeout=60)
        assert (response.status_code, len(response.json()["results"])) == (200, 1)
        assert len(serve.look()) >= 6  # the launcher, supervisor, worker, gunicorn and its two, Envoy
        serve.ctrl_c()
        serve.end()
        wait_for(serve.nothing_is_left, "all processes end")
        assert all(is_free(base + offset) for offset in range(24))
    assert "Traceback" not in serve.output


def test_it_installs_what_it_runs_and_nothing_else() -> None:
    """No other engine, no compiler and no tests; 700 MB at most."""
    installed = {path.name for path in (ROOT / ".serve/venv").glob("lib/python*/site-packages/*")}
    assert {"openvino", "envoy", "gunicorn"} <= installed
    assert not {"tensorflow", "onnxruntime", "ziglang", "mtcnn", "onnx", "pytest", "playwright"} & installed
    used = subprocess.run(["du", "--summarize", "--block-size=1M", ".serve/venv"], cwd=ROOT, stdout=-1, check=True)
    assert int(used.stdout.split()[0]) <= 700


@pytest.mark.parametrize("source", ["kernels.c", "cascade.py"])
def test_only_what_is_built_is_installed_again(source: str) -> None:
    """Other sources take effect as they are."""
    changed = f"services/inference/src/inference/mtcnn/{source}"
    assert (ROOT / changed).exists()
    done = subprocess.run(
        ["make", "--dry-run", f"--what-if={changed}", READY], cwd=ROOT, stdout=-1, text=True, check=True
    )
    assert ("--editable services/inference" in done.stdout) == (source == "kernels.c")


def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    """The edge's port, and one of the workers'."""
    base = free_base_port()
    for offset in (24, 7):
        with socket.socket() as other, make_serve(base, tmp_path) as serve:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", base + offset))
            other.listen()
            assert serve.end() != 0
            (line,) = [line for line in serve.output.splitlines() if line.startswith("error:")]
            assert str(base + offset) in line
            wait_for(serve.nothing_is_left, "all processes end")
            assert "Traceback" not in serve.output


def test_a_part_that_fails_to_start_takes_the_rest_with_it(tmp_path: Path) -> None:
    """The reason is printed, and no part stays."""
    with make_serve(free_base_port(), tmp_path, FACET_ENGINE="caffe") as serve:
        assert serve.end() != 0
        assert "there is no engine 'caffe'" in serve.output
        wait_for(serve.nothing_is_left, "all processes end")


@pytest.mark.parametrize("part", ["envoy", "launcher"])
def test_a_part_that_is_killed_takes_the_rest_with_it(tmp_path: Path, part: str) -> None:
    """Also when it is the launcher itself: the kernel tells the others."""
    with make_serve(free_base_port(), tmp_path) as serve:
        serve.wait_for_line()
        word = {"envoy": "--config-path", "launcher": "tools.serve"}[part]
        (victim,) = [process for process in serve.look() if word in command_of(process)]
        victim.kill()
        assert serve.end() != 0
        wait_for(serve.nothing_is_left, "all processes end")


def test_the_health_check_of_the_image_asks_over_grpc(processes: RunningStack) -> None:
    """It exits with 0 if a worker serves, otherwise with 1 and the reason."""
    command = [sys.executable, "-m", "inference.process.healthcheck"]
    assert subprocess.run([*command, processes.shared], check=False).returncode == 0
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{nobody.getsockname()[1]}"
        done = subprocess.run([*command, target], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{target}: ")
