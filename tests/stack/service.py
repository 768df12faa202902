"""The inference service alone: `python -m inference` on free ports."""

import os
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


@dataclass
class RunningService:
    """A supervisor with its workers."""

    process: subprocess.Popen[bytes]
    base: int
    log: Path

    @property
    def target(self) -> str:
        """The port that all workers share, as a gRPC target."""
        return f"127.0.0.1:{self.base}"

    def processes(self) -> list[psutil.Process]:
        """Return the supervisor and its workers."""
        supervisor = psutil.Process(self.process.pid)
        return [supervisor, *supervisor.children(recursive=True)]

    def serves(self) -> bool:
        """Return whether a worker reports SERVING."""
        with grpc.insecure_channel(self.target) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            try:
                answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
            except grpc.RpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


@contextmanager
def running_service(base: int, folder: Path, **settings: str) -> Iterator[RunningService]:
    """Start the service on ports from `base` on, and kill what is left of it at the end."""
    ports = {"FACET_PORT": base, "FACET_METRICS_PORT": base + 1, "FACET_WORKER_PORT": base + 2}
    defaults = {"FACET_HOST": "127.0.0.1", "FACET_WORKERS": "2", "FACET_DRAIN_SECONDS": "0.1"}
    log = folder / f"{time.monotonic()}.log"
    with log.open("wb") as file:
        environment = os.environ | defaults | {name: str(port) for name, port in ports.items()} | settings
        command = [sys.executable, "-m", "inference"]
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file, stdin=subprocess.DEVNULL)
    try:
        yield RunningService(process, base, log)
    finally:
        if process.poll() is None:
            process.kill()  # the kernel then ends the workers
        process.wait()
