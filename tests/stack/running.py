"""A stack of real processes on free ports, started as a user starts it, and load for it."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

ROOT = Path(__file__).parents[2]
PORTS_NEEDED = 25
SECONDS = 120  # the limit for any condition, also on a busy machine


def wait_for(condition: Callable[[], Any], what: str, seconds: float = SECONDS, every: float = 0.05) -> Any:
    """Wait until `condition()` is true, and return its value."""
    give_up = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < give_up, f"{what}: not within {seconds} s"
        time.sleep(every)
    return result


def ready(url: str) -> bool:
    """Return whether a worker serves and Envoy knows it."""
    return httpx.get(f"{url}/readyz", timeout=60).status_code == 200


def free_base_port() -> int:
    """Find consecutive free ports below the kernel's range for outgoing connections."""
    while True:
        base = random.randrange(10000, 32000)
        probes = [socket.socket() for _ in range(PORTS_NEEDED)]
        try:
            for offset, probe in enumerate(probes):
                probe.bind(("127.0.0.1", base + offset))
        except OSError:
            continue
        finally:
            for probe in probes:
                probe.close()
        return base


@dataclass
class RunningStack:
    """A stack that serves."""

    process: subprocess.Popen[str]
    base: int
    logs: Path

    @property
    def url(self) -> str:
        return f"http://{self.edge}"

    @property
    def edge(self) -> str:
        """The edge as a gRPC target."""
        return f"127.0.0.1:{self.base + 24}"

    @property
    def gateway_url(self) -> str:
        """The gateway without Envoy."""
        return f"http://127.0.0.1:{self.base}"

    @property
    def shared(self) -> str:
        """The port that all workers share, as a gRPC target."""
        return f"127.0.0.1:{self.base + 3}"

    @property
    def internal(self) -> str:
        """Envoy's listener for the gateway, as a gRPC target."""
        return f"127.0.0.1:{self.base + 2}"

    @property
    def metrics_urls(self) -> dict[str, str]:
        """The metrics of each tier."""
        offsets = {"web": 1, "inference": 5, "envoy": 6}
        return {tier: f"http://127.0.0.1:{self.base + offset}/metrics" for tier, offset in offsets.items()}

    def envoy(self, counter: str) -> int:
        """Return one of Envoy's counters."""
        answer = httpx.get(f"http://127.0.0.1:{self.base + 4}/stats?filter=^{counter}$", timeout=60).text
        return int(answer.partition(": ")[2])

    def own(self, slot: int) -> str:
        """Return the own port of the worker in a slot, as a gRPC target."""
        return f"127.0.0.1:{self.base + 7 + slot}"

    def processes(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def supervisors(self) -> list[psutil.Process]:
        return [p for p in self.processes() if command_of(p)[-2:] == ["-m", "inference"]]

    def gateways(self) -> list[psutil.Process]:
        """Return the master processes of gunicorn."""
        return [p for p in psutil.Process(self.process.pid).children() if "gunicorn" in command_of(p)]

    def workers(self) -> list[psutil.Process]:
        return [p for p in self.processes() if "inference.process.worker" in command_of(p)]

    def serving(self, within: float = 5) -> int:
        """Count the workers that report SERVING within a number of seconds."""
        return len(self.serving_slots(within))

    def serving_slots(self, within: float = 5) -> list[int]:
        """Return their slots, which change with every rolling restart."""
        slots = []
        for slot in range(17):
            with grpc.insecure_channel(self.own(slot)) as channel:
                stub: Any = health_pb2_grpc.HealthStub(channel)
                try:
                    answer = stub.Check(health_pb2.HealthCheckRequest(service="Inference"), timeout=within)
                except grpc.RpcError:
                    continue
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    slots.append(slot)
        return slots

    def log_lines(self, part: str) -> list[dict[str, Any]]:
        """Parse the log of a part: each complete line must be a JSON object."""
        lines = (self.logs / f"{part}.log").read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]


@contextmanager
def running_stack(logs: Path, *arguments: str, **settings: str) -> Iterator[RunningStack]:
    """Start a stack as `make serve` does, and stop it at the end."""
    base = free_base_port()
    command = [sys.executable, "-m", "tools.serve", f"--base-port={base}", f"--port={base + 24}", f"--logs={logs}"]
    process = subprocess.Popen(
        [*command, *arguments],
        cwd=ROOT,
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert "facet answers at" in line, f"it did not start: see {logs}"
        yield RunningStack(process, base, logs)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        finally:
            process.kill()
            process.stdout.close()


def command_of(process: psutil.Process) -> list[str]:
    """Return the command line of a process."""
    try:
        return list(process.cmdline())
    except psutil.Error:  # it is ending
        return []


def gone(process: psutil.Process) -> bool:
    """Return whether a process has ended, even if its parent has not waited for it."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
