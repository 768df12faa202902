"""A compose stack for tests: the images that `make test-stack` built, with another project name and a free port."""

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from tests.stack.running import ROOT, command_of, free_base_port, wait_for

FILE = ROOT / "deploy/docker-compose.yml"


def docker(*arguments: str) -> str:
    """Run the docker command and return its output; its errors are part of the assertion."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
    return done.stdout


@dataclass
class ComposeStack:
    """A running compose project."""

    project: str
    port: int
    settings: dict[str, str]
    env_file: Path
    files: Sequence[str] = (str(FILE),)
    replicas: dict[str, int] = field(default_factory=lambda: {"inference": 1, "web": 1})

    @property
    def url(self) -> str:
        return f"http://{self.edge}"

    @property
    def edge(self) -> str:
        """The edge as a gRPC target."""
        return f"127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of compose and the Makefile: the project's name and the settings."""
        own = {"COMPOSE_PROJECT_NAME": self.project, "FACET_PUBLISH": self.edge, "FACET_TAG": "test"}
        return os.environ | own | {"FACET_ENV_FILE": str(self.env_file)} | self.settings

    def compose(self, *arguments: str) -> str:
        """Run `docker compose` on this project."""
        files = [part for file in self.files for part in ("--file", file)]
        done = subprocess.run(
            ["docker", "compose", *files, *arguments], capture_output=True, text=True, env=self.environment, check=False
        )
        assert done.returncode == 0, f"docker compose {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def up(self, *arguments: str, **replicas: int) -> None:
        """Scale the services, and wait until all containers are healthy."""
        self.replicas |= replicas
        scale = [f"--scale={service}={count}" for service, count in self.replicas.items()]
        self.compose("up", "--detach", "--wait", "--no-build", "--no-recreate", *scale, *arguments)

    def containers(self, service: str) -> list[str]:
        """Return the ids of a service's running containers."""
        return self.compose("ps", "--quiet", service).split()

    def container(self, service: str) -> str:
        return self.containers(service)[0]

    def inspect(self, container: str) -> dict[str, Any]:
        (found,) = json.loads(docker("inspect", container))
        return dict(found)

    def wait_until_healthy(self, container: str) -> None:
        """Wait until a container's health check passes."""

        def healthy() -> bool:
            return bool(self.inspect(container)["State"]["Health"]["Status"] == "healthy")

        wait_for(healthy, f"{container[:12]} is healthy")

    def workers(self) -> list[psutil.Process]:
        """Return the worker processes of all containers, with this machine's process ids."""
        masters = [psutil.Process(self.inspect(found)["State"]["Pid"]) for found in self.containers("inference")]
        inside = [process for master in masters for process in master.children(recursive=True)]
        return [process for process in inside if "inference.process.worker" in command_of(process)]

    def execute(self, container: str, *command: str, user: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program in a container, as the container's user or another."""
        whole = ["docker", "exec", *([f"--user={user}"] if user else []), container, *command]
        return subprocess.run(whole, capture_output=True, text=True, check=False)

    def address(self, container: str, network: str) -> str:
        """Return a container's address in one of the project's networks."""
        return str(self.inspect(container)["NetworkSettings"]["Networks"][f"{self.project}_{network}"]["IPAddress"])

    def log_lines(self, service: str) -> list[dict[str, Any]]:
        """Parse the logs of a service: each line must be a JSON object, and gets the id of its container."""
        lines = [(container, line) for container in self.containers(service) for line in log_of(container)]
        return [json.loads(line) | {"container": container} for container, line in lines]


def log_of(container: str) -> list[str]:
    """Return the lines of a container's log."""
    both = subprocess.run(["docker", "logs", container], capture_output=True, text=True, check=True)
    return [*both.stdout.splitlines(), *both.stderr.splitlines()]


def worker_ids(container: str) -> set[str]:
    """Return the ids of the workers that have served in a container, as responses show them."""
    lines = map(json.loads, log_of(container))
    return {line["worker"] for line in lines if line["message"] == "serving"}


@contextmanager
def compose_stack(
    name: str, files: Sequence[str] = (), *, first: Path = FILE, **settings: str
) -> Iterator[ComposeStack]:
    """Start a project without building images, and remove it at the end.

    Paths in all files are relative to the folder of the `first` file.
    """
    port = free_base_port()
    with TemporaryDirectory() as folder:
        env_file = Path(folder) / "settings.env"  # instead of a .env file of this checkout
        env_file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        stack = ComposeStack(f"facet-{name}-{port}", port, settings, env_file, (str(first), *files))
        try:
            try:
                stack.up()
            except AssertionError as error:
                raise AssertionError(f"{error}\n{stack.compose('logs', '--no-color', '--tail=20')}") from None
            yield stack
        finally:
            stack.compose("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "5")
