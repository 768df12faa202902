"""A running stack, the real parts on free ports, started as a user starts them; and load for it."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
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
SECONDS = 120  # for anything to become true on a busy machine; a test ends as soon as it is


def wait_for(condition: Callable[[], Any], what: str, seconds: float = SECONDS, every: float = 0.05) -> Any:
    """Wait until `condition()` is true, and give what it gave."""
    give_up = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < give_up, f"{what}: not within {seconds} s"
        time.sleep(every)
    return result


def ready(url: str) -> bool:
    """Whether a picture would be examined: a worker serves, and Envoy knows it."""
    return httpx.get(f"{url}/readyz", timeout=60).status_code == 200


def free_base_port() -> int:
    """Find a run of free ports below the range that the kernel takes outgoing ones from."""
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
    """A stack that serves, seen from outside."""

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
        """The gateway itself, past Envoy."""
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
        """Where each tier shows its metrics."""
        offsets = {"web": 1, "inference": 5, "envoy": 6}
        return {tier: f"http://127.0.0.1:{self.base + offset}/metrics" for tier, offset in offsets.items()}

    def envoy(self, counter: str) -> int:
        """Give one of Envoy's counters."""
        answer = httpx.get(f"http://127.0.0.1:{self.base + 4}/stats?filter=^{counter}$", timeout=60).text
        return int(answer.partition(": ")[2])

    def own(self, slot: int) -> str:
        """The port of the worker in a slot, as a gRPC target."""
        return f"127.0.0.1:{self.base + 7 + slot}"

    def processes(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def supervisors(self) -> list[psutil.Process]:
        return [p for p in self.processes() if command_of(p)[-2:] == ["-m", "inference"]]

    def gateways(self) -> list[psutil.Process]:
        """The masters of gunicorn."""
        return [p for p in psutil.Process(self.process.pid).children() if "gunicorn" in command_of(p)]

    def workers(self) -> list[psutil.Process]:
        return [p for p in self.processes() if "inference.process.worker" in command_of(p)]

    def serving(self, within: float = 5) -> int:
        """How many workers say that they serve, within so many seconds."""
        return len(self.serving_slots(within))

    def serving_slots(self, within: float = 5) -> list[int]:
        """Where they are: which slots are taken changes with every rolling restart."""
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
        """Read a part's log; each line must be a JSON object, but for the one that is just being written."""
        lines = (self.logs / f"{part}.log").read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]


@contextmanager
def running_stack(logs: Path, *arguments: str, **settings: str) -> Iterator[RunningStack]:
    """Start the stack as `make serve` does, and stop it whatever happens."""
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
    """Give a process's arguments."""
    try:
        return list(process.cmdline())
    except psutil.Error:  # it is ending
        return []


def gone(process: psutil.Process) -> bool:
    """Whether a process has ended, reaped or not."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Load:
    """Callers that post one picture again and again, each when its last is answered."""

    def __init__(self, url: str, body: bytes, callers: int) -> None:
        self.answers: Counter[tuple[int, str, int]] = Counter()  # (status, worker or message, faces)
        self._url = url
        self._body = body
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(callers)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def count(self) -> int:
        return self.answers.total()

    def wait_for_more(self, count: int) -> None:
        """Wait until so many more requests are answered."""
        target = self.count + count
        wait_for(lambda: self.count >= target, f"{count} more answers")

    def by_worker(self) -> Counter[str]:
        """Count the answers of each worker."""
        with self._lock:
            answers = self.answers.copy()
        counts: Counter[str] = Counter()
        for (_, worker, _), count in answers.items():
            counts[worker] += count
        return counts

    def lost(self) -> dict[tuple[int, str, int], int]:
        """Whatever was not the right answer: 200 and one face."""
        return {answer: count for answer, count in self.answers.items() if (answer[0], answer[2]) != (200, 1)}

    def _call(self) -> None:
        with httpx.Client(timeout=60) as http:
            while not self._stop.is_set():
                answer = self._one(http)
                with self._lock:
                    self.answers[answer] += 1

    def _one(self, http: httpx.Client) -> tuple[int, str, int]:
        try:
            response = http.post(f"{self._url}/predict", content=self._body, headers={"Content-Type": "image/png"})
            answer = response.json()
        except (httpx.HTTPError, ValueError) as error:
            return (0, repr(error), 0)
        if response.status_code != 200:
            return (response.status_code, answer["message"], 0)
        return (200, answer["metaData"]["worker"], len(answer["results"]))
