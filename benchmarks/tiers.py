"""Measures what one image costs in each tier, over HTTP and through the whole stack. `make bench-tiers`.

It starts a stack of processes as `make serve` does, and reads the CPU time of each tier before and after. CPU times are
comparable between runs. The images per second are lower than on a machine without the callers.
"""

import argparse
import http.client
import io
import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import psutil
from PIL import Image

ROOT = Path(__file__).parents[1]
TIERS = ("envoy", "web", "inference")
SIZES = ((320, 240), (640, 480), (1920, 1080))
WORKERS = 2
PORTS = 25  # of a stack: the edge, and the ports above --base-port
FEWEST = 50  # images to measure: the kernel counts CPU time in hundredths of a second


class Callers:
    """Threads that post one image repeatedly, each after its last answer."""

    def __init__(self, port: int, body: bytes, count: int) -> None:
        self.answered = 0
        self.wrong: list[str] = []
        self._port = port
        self._body = body
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._call, daemon=True) for _ in range(count)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _call(self) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)) as connection:
            while not self._stop.is_set():
                try:
                    connection.request("POST", "/predict", self._body, {"Content-Type": "image/jpeg"})
                    answer = json.load(connection.getresponse())
                    faces = len(answer["results"])
                except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
                    self.wrong.append(repr(error))
                    return
                if faces != 1:
                    self.wrong.append(f"{faces} faces where there is one")
                    return
                with self._lock:
                    self.answered += 1


def portrait(width: int, height: int) -> bytes:
    """Return a JPEG of this size with one face."""
    astronaut = Image.open(ROOT / "tests/images/astronaut.webp").convert("RGB")
    target = io.BytesIO()
    astronaut.resize((width, height)).save(target, "JPEG", quality=90)
    return target.getvalue()


def by_tier(stack: int) -> dict[str, list[psutil.Process]]:
    """Return the processes of each tier."""
    found: dict[str, list[psutil.Process]] = {tier: [] for tier in TIERS}
    for process in psutil.Process(stack).children(recursive=True):
        command = process.cmdline()
        tier = "envoy" if "envoy" in Path(command[0]).name else "web" if "gunicorn" in command else "inference"
        found[tier].append(process)
    return found


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """Return the CPU time of processes that still run."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def measure(stack: int, port: int, body: bytes, callers: int, seconds: float) -> tuple[float, dict[str, float]]:
    """Return images per second, and milliseconds of CPU time for one in each tier."""
    tiers = by_tier(stack)
    load = Callers(port, body, callers)
    load.start()
    time.sleep(seconds / 4)  # warm up
    before, count, began = {tier: cpu_seconds(tiers[tier]) for tier in TIERS}, load.answered, time.monotonic()
    while time.monotonic() < began + seconds or load.answered < count + FEWEST:
        if load.wrong:
            sys.exit(load.wrong[0])
        time.sleep(0.05)
    answered, took = load.answered - count, time.monotonic() - began
    after = {tier: cpu_seconds(tiers[tier]) for tier in TIERS}
    load.stop()
    return answered / took, {tier: 1000 * (after[tier] - before[tier]) / answered for tier in TIERS}


def free_ports(count: int) -> int:
    """Return the first of `count` consecutive free ports, below those that the kernel uses for outgoing connections."""
    while True:
        first = random.randrange(10000, 32000)  # noqa: S311 - no secret
        probes = [socket.socket() for _ in range(count)]
        try:
            for offset, probe in enumerate(probes):
                probe.bind(("127.0.0.1", first + offset))
        except OSError:
            continue
        finally:
            for probe in probes:
                probe.close()
        return first


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=15, help="how long each size is measured, at least")
    parser.add_argument("--callers", type=int, default=8, help="at the same time")
    arguments = parser.parse_args()
    port = free_ports(PORTS)
    command = [sys.executable, "-m", "tools.serve", f"--port={port}", f"--base-port={port + 1}", f"--workers={WORKERS}"]
    stack = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        if "answers" not in (stack.stdout.readline() if stack.stdout else ""):
            sys.exit("the stack did not start")
        megabytes = {
            tier: round(sum(process.memory_full_info().pss for process in processes) / 1e6)
            for tier, processes in by_tier(stack.pid).items()
        }
        print(f"idle, {WORKERS} workers: " + ", ".join(f"{tier} {megabytes[tier]} MB" for tier in TIERS))
        print(f"\n| image, JPEG with one face | images/s | {' | '.join(f'{tier}, ms CPU' for tier in TIERS)} |")
        print("| --- | --- | --- | --- | --- |")
        for width, height in SIZES:
            body = portrait(width, height)
            rate, cost = measure(stack.pid, port, body, arguments.callers, arguments.seconds)
            figures = " | ".join(f"{cost[tier]:.1f}" for tier in TIERS)
            print(f"| {width}x{height}, {len(body) / 1000:.0f} kB | {rate:.0f} | {figures} |")
    finally:
        stack.send_signal(signal.SIGINT)
        stack.wait(60)
    return 0


if __name__ == "__main__":
    sys.exit(main())
