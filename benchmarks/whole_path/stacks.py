"""Starts facet and the baseline with their commands, and reads the CPU time and memory of their processes."""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil
from tiers import PORTS, ROOT, free_ports
from wire import Wire

START_SECONDS = 180  # TensorFlow in three processes, on a busy machine
ASK_EVERY = 0.05


class CannotCompare(Exception):
    """The run ends: a stack does not start, or its answers are wrong."""


@dataclass
class Stack:
    """A running stack. `base` is the first port behind the edge."""

    name: str
    port: int
    base: int
    process: psutil.Process
    cold_start: float
    """Seconds from the command to the first right answer."""

    @property
    def url(self) -> str:
        """The edge."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def gateway_url(self) -> str:
        """The gateway without the edge (facet only)."""
        return f"http://127.0.0.1:{self.base}"

    @property
    def worker(self) -> str:
        """The port of the first worker, as a gRPC target (facet only)."""
        return f"127.0.0.1:{self.base + 7}"

    def cpu_seconds(self) -> dict[str, float]:
        """Read the CPU time of each tier, including ended children."""
        used: dict[str, float] = {}
        for process in self._processes():
            tier = _tier(process)
            used[tier] = used.get(tier, 0.0) + sum(process.cpu_times()[:4])
        return used

    def each_worker(self) -> dict[int, float]:
        """Read the CPU time of each process that detects, by its number."""
        tier = "inference" if self.name == "facet" else "start"
        those = [process for process in self._processes() if _tier(process) == tier]
        # The first one starts the others and does not detect: facet's supervisor, the baseline's gateway.
        return {process.pid: sum(process.cpu_times()[:2]) for process in those[1:]}

    def megabytes(self) -> float:
        """Read the memory of all processes; shared pages count once (PSS)."""
        return float(sum(process.memory_full_info().pss for process in self._processes()) / 1e6)

    def _processes(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]


def _tier(process: psutil.Process) -> str:
    command = " ".join(process.cmdline())
    known = {"envoy/_bin": "envoy", "gunicorn": "web", "-m inference": "inference", "-m whole_path": "inference"}
    return next((tier for sign, tier in known.items() if sign in command), "start")


@contextmanager
def facet(workers: int, request: bytes, *, inference: str = "inference") -> Iterator[Stack]:
    """Run facet as `make serve` does, with another module for the inference service if one is named."""
    first = free_ports(PORTS)
    with tempfile.TemporaryDirectory() as logs:
        command = ["-m", "tools.serve", f"--port={first}", f"--base-port={first + 1}", f"--workers={workers}"]
        with _running("facet", [*command, f"--logs={logs}", f"--inference={inference}"], first, request) as stack:
            yield stack


@contextmanager
def baseline(processes: int, request: bytes) -> Iterator[Stack]:
    """Run the stack of a tutorial."""
    first = free_ports(2)
    command = ["benchmarks/baseline/gateway.py", f"--port={first}", f"--grpc-port={first + 1}"]
    with _running("baseline", [*command, f"--processes={processes}"], first, request) as stack:
        yield stack


@contextmanager
def _running(name: str, command: list[str], port: int, request: bytes) -> Iterator[Stack]:
    began = time.monotonic()
    environment = os.environ | {"PYTHONPATH": str(ROOT / "benchmarks")}
    command = [sys.executable, *command]
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=said) as started,
    ):
        process = psutil.Process(started.pid)
        stack = Stack(name, port, port + 1, process, 0.0)
        try:
            if not asyncio.run(_until_answered(stack, started, request)):
                said.seek(0)
                raise CannotCompare(f"{name} did not start: {said.read().decode()[-500:]}")
            stack.cold_start = time.monotonic() - began
            yield stack
        finally:
            _stop(process)


async def _until_answered(stack: Stack, started: subprocess.Popen[bytes], request: bytes) -> bool:
    wire = Wire(stack.url)
    with suppress(TimeoutError):
        async with asyncio.timeout(START_SECONDS):
            while started.poll() is None:
                with suppress(OSError):
                    if (await wire.ask(request)).status == 200:  # noqa: PLR2004
                        wire.close()
                        return True
                await asyncio.sleep(ASK_EVERY)
    return False


def _stop(process: psutil.Process) -> None:
    """Stop a stack gracefully, then end its remaining processes; the baseline leaves some."""
    if not process.is_running():
        return
    children = process.children(recursive=True)
    process.terminate()
    _, left = psutil.wait_procs([process], 60)
    for each in [*left, *children]:
        with suppress(psutil.NoSuchProcess):
            each.terminate()
    _, left = psutil.wait_procs(children, 10)
    for each in left:
        with suppress(psutil.NoSuchProcess):
            each.kill()
