"""The inference service itself: started and stopped again and again, killed, and started twice."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.conftest import Figures
from tests.stack.running import free_base_port, gone, wait_for


@dataclass
class Service:
    """`python -m inference` with two workers."""

    process: subprocess.Popen[bytes]
    base: int
    log: Path

    def family(self) -> list[psutil.Process]:
        """The supervisor and its workers."""
        supervisor = psutil.Process(self.process.pid)
        return [supervisor, *supervisor.children(recursive=True)]

    def serves(self) -> bool:
        """Whether a worker does."""
        with grpc.insecure_channel(f"127.0.0.1:{self.base}") as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            try:
                answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
            except grpc.RpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


@contextmanager
def started(base: int, folder: Path) -> Iterator[Service]:
    """Start the service on ports of its own; whatever is left of it is killed at the end."""
    ports = {"FACET_PORT": base, "FACET_METRICS_PORT": base + 1, "FACET_WORKER_PORT": base + 2}
    settings = {"FACET_HOST": "127.0.0.1", "FACET_WORKERS": "2", "FACET_DRAIN_SECONDS": "0.1"}
    log = folder / f"{time.monotonic()}.log"
    with log.open("wb") as file:
        command = [sys.executable, "-m", "inference"]
        environment = os.environ | settings | {name: str(port) for name, port in ports.items()}
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file, stdin=subprocess.DEVNULL)
    service = Service(process, base, log)
    try:
        yield service
    finally:
        if process.poll() is None:
            process.kill()  # the kernel tells the workers
        process.wait()


def test_starts_and_stops_at_any_moment_leave_nothing(tmp_path: Path, figures: Figures, *, long: bool) -> None:
    """SIGTERM in the middle of a start or after it: exit code 0, no process stays, and the ports are free again."""
    base, moments, times = free_base_port(), random.Random(1), 200 if long else 6
    longest, exit_codes, orphans = 0.0, set[int](), 0
    for _ in range(times):
        with started(base, tmp_path) as service:
            wait_for(lambda log=service.log: "worker started" in log.read_text(), "it catches signals")  # type: ignore[misc]
            time.sleep(moments.uniform(0, 2))  # the moment is the point
            family, asked = service.family(), time.monotonic()
            service.process.terminate()
            exit_codes.add(service.process.wait(60))
            longest = max(longest, time.monotonic() - asked)
            orphans += sum(not gone(process) for process in family)
    figures(
        "starts and stops of the inference service, at any moment",
        {"starts": times, "orphans": orphans, "exit_code": max(exit_codes), "longest_stop_s": round(longest, 2)},
        at_most={"orphans": 0, "exit_code": 0, "longest_stop_s": 25},
    )
    assert (exit_codes, orphans) == ({0}, 0)


def test_after_a_kill_it_starts_again_on_the_same_ports(tmp_path: Path, figures: Figures, *, long: bool) -> None:
    """Kill -9 of the supervisor takes its workers with it, whatever they do; the next one serves."""
    base, times, longest = free_base_port(), 20 if long else 2, 0.0
    for _ in range(times):
        with started(base, tmp_path) as service:
            wait_for(service.serves, "it serves")
            family = service.family()
            assert len(family) == 3
            service.process.kill()
            killed = time.monotonic()
            wait_for(lambda killed=family: all(gone(process) for process in killed), "nobody stays")  # type: ignore[misc]
            longest = max(longest, time.monotonic() - killed)
    found = {"kills": times, "all_gone_after_s": round(longest, 2)}
    figures("kill -9 of the supervisor; the next one serves each time", found, at_most={"all_gone_after_s": 5})


def test_a_second_start_on_the_same_ports_is_refused(tmp_path: Path, figures: Figures) -> None:
    """In one line with the port, before any worker is started; the first goes on."""
    base = free_base_port()
    with started(base, tmp_path) as first:
        wait_for(first.serves, "it serves")
        began = time.monotonic()
        with started(base, tmp_path) as second:
            assert second.process.wait(60) == 2
        figures("a second start on the same ports", {"refused_after_s": round(time.monotonic() - began, 1)})
        (line,) = second.log.read_text().splitlines()
        message = f"cannot listen on 127.0.0.1:{base}: Address already in use"
        assert (json.loads(line)["level"], json.loads(line)["message"]) == ("CRITICAL", message)
        assert first.serves()
        assert len(first.family()) == 3
