"""Measures the compose stack: image sizes, start and rebuild times, memory. `make bench-containers`.

It works on a copy of the sources, with a separate project name and the image tag `test`, and removes what it started.
The times depend on this machine and its load.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
TIERS = ("inference", "web", "envoy")
WORKERS = 2
CHANGED = "services/inference/src/inference/rpc/servicer.py"
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
GIVE_UP_SECONDS = 300


class Stack:
    """The compose project of a copy of the sources."""

    def __init__(self, folder: Path, port: int) -> None:
        (folder / ".env").write_text(f"FACET_WORKERS={WORKERS}\n")
        self._file = folder / "deploy/docker-compose.yml"
        self._url = f"http://127.0.0.1:{port}/predict"
        own = {"FACET_PUBLISH": f"127.0.0.1:{port}", "COMPOSE_PROJECT_NAME": f"facet-{port}", "FACET_TAG": "test"}
        self._environment = os.environ | own
        self._image = (ROOT / "tests/images/astronaut.webp").read_bytes()

    def compose(self, *arguments: str) -> str:
        """Run `docker compose` on the project."""
        command = ["docker", "compose", "--file", str(self._file), *arguments]
        return subprocess.run(command, env=self._environment, check=True, capture_output=True, text=True).stdout

    def answer(self) -> str | None:
        """Send an image; return the id of the worker that found the face, or None if no worker was reached."""
        headers = {"Content-Type": "image/webp"}
        try:
            with DIRECT.open(urllib.request.Request(self._url, self._image, headers), timeout=30) as response:  # noqa: S310 - loopback
                found = json.load(response)
        except (urllib.error.URLError, OSError):
            return None
        if len(found["results"]) != 1:
            sys.exit("the face in the image was not found")
        return str(found["metaData"]["worker"])

    def up(self, *arguments: str) -> None:
        """Start missing containers and wait until an image is answered."""
        self.compose("up", "--detach", "--wait", *arguments)
        wait_for(self.answer)

    def discovery(self, containers: int) -> float:
        """Start more containers of workers; return the longest time until a new one gets an image, in seconds."""
        old = self.compose("ps", "--quiet", "inference").split()
        self.compose("up", "--detach", "--scale", f"inference={containers}", "inference")
        new = [found for found in self.compose("ps", "--quiet", "inference").split() if found not in old]
        answered: dict[str, float] = {}  # by the worker's id

        def all_answered() -> bool:
            worker = self.answer()
            if worker is None or worker in answered:
                return False
            answered[worker] = time.time()
            return all(answered.keys() & self._serving(container).keys() for container in new)

        wait_for(all_answered)
        waits = []
        for container in new:
            serving = self._serving(container)
            first = min(answered[worker] for worker in answered.keys() & serving.keys())
            waits.append(first - min(serving.values()))
        return max(waits)

    def _serving(self, container: str) -> dict[str, float]:
        """Return the time since which each worker of a container serves, by its id."""
        lines = [json.loads(line) for line in docker("logs", container).splitlines()]
        return {
            line["worker"]: datetime.fromisoformat(line["ts"]).timestamp()
            for line in lines
            if line["message"] == "serving"
        }

    def memory(self) -> dict[str, float]:
        """Return the memory of each container in megabytes, as the engine counts it: without the page cache."""
        used = {}
        for tier in TIERS:
            (container,) = self.compose("ps", "--quiet", tier).split()
            text = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", container)
            amount, unit = re.match(r"([\d.]+)([KMG]iB)", text).groups()  # type: ignore[union-attr]
            used[tier] = float(amount) * {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}[unit] / 1e6
        return used


def docker(*arguments: str) -> str:
    """Run the client of the container engine."""
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout


def wait_for(condition: Callable[[], object]) -> None:
    """Check a condition until it is true."""
    give_up = time.monotonic() + GIVE_UP_SECONDS
    while not condition():
        if time.monotonic() > give_up:
            sys.exit(f"not within {GIVE_UP_SECONDS} s")
        time.sleep(0.02)


def seconds(work: Callable[[], object]) -> float:
    """Return the duration of some work."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def copy_sources(folder: Path) -> None:
    """Copy all files that are or could be committed, so that the checkout is not changed."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    for name in listed:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def figures(stack: Stack, folder: Path) -> dict[str, float]:
    """Measure everything, in turn."""
    sizes = {tier: int(docker("inspect", "--format", "{{.Size}}", f"facet-{tier}:test")) for tier in TIERS}
    measured = {f"image {tier}, MB": size / 1e6 for tier, size in sizes.items()}
    stack.compose("build")
    measured["from nothing to the first answer, s"] = seconds(stack.up)
    time.sleep(5)  # the memory of the start is released
    memory = stack.memory()
    measured |= {f"idle {tier}, MB": used for tier, used in memory.items()}
    measured[f"idle stack with {WORKERS} workers, MB"] = sum(memory.values())

    measured["a new container serves, until Envoy sends it an image, s"] = stack.discovery(3)
    stack.compose("up", "--detach", "--wait", "--scale", "inference=1", "inference")

    changed = folder / CHANGED
    changed.write_text(changed.read_text() + f"\nCHANGED = {time.time()}\n")
    measured["a code change, until it answers again, s"] = seconds(lambda: stack.up("--build"))
    return measured


def main() -> int:
    """Print the figures as a table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_sources(folder)
        stack = Stack(folder, free_port())
        try:
            measured = figures(stack, folder)
        finally:
            stack.compose("down", "--volumes", "--timeout", "5")
    print("| what | figure |\n|---|---|")
    for what, figure in measured.items():
        print(f"| {what} | {figure:.1f} |" if figure < 100 else f"| {what} | {figure:.0f} |")  # noqa: PLR2004
    return 0


if __name__ == "__main__":
    sys.exit(main())
