"""The running parts of a stack: the supervisor with its workers, gunicorn with the gateway, and Envoy."""

import ctypes
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress

from tools.serve.plan import LOOPBACK, ROOT, CannotServe, Plan, addresses
from tools.serve.rendering import envoy_binary, envoy_traces, write_envoy_config

READY_SECONDS = 180  # a cold start of the slowest engine on a busy machine
STOP_SECONDS = 30  # above the grace periods of the parts
UNVERIFIED = ssl._create_unverified_context()  # noqa: S323, SLF001 - our own Envoy; its certificate may have any name
# The address is on loopback, so http_proxy does not apply.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=UNVERIFIED))


class Stack:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._parts: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start all parts and wait until an image would be examined. Raises CannotServe."""
        ports = self._plan.ports
        for port in (ports.edge, ports.web, ports.web_metrics, ports.internal, ports.admin, ports.envoy_metrics):
            _check_free(port)
        config, traces = write_envoy_config(self._plan), envoy_traces()
        for host in addresses(self._plan.inference_replicas):
            self._start_inference(host)
        for host in addresses(self._plan.web_replicas):
            self._start_web(host)
        command = [envoy_binary(), "--config-path", str(config), "--disable-hot-restart", "--log-level", "warn"]
        # Flush the access log every half second instead of every ten: somebody is reading it.
        self._run("envoy", [*command, "--file-flush-interval-msec", "500", *traces], {})
        self._wait_until_ready()

    def wait(self) -> None:
        """Wait until all replicas of a tier have ended, which should not happen. Raises CannotServe."""
        while True:
            ended = self._ended()
            running = {_tier(name) for name in self._parts if name not in ended}
            for name in ended:
                if _tier(name) not in running:
                    raise CannotServe(self._why(name))
            time.sleep(0.2)

    def stop(self) -> list[str]:
        """Stop all parts gracefully, callers before callees, and return the names of those that did not exit with 0."""
        try:
            for tier in ("web", "inference", "envoy"):  # Envoy is last: answers pass through it
                parts = [part for name, part in self._parts.items() if _tier(name) == tier]
                for part in parts:
                    part.terminate()
                give_up = time.monotonic() + STOP_SECONDS
                for part in parts:
                    part.wait(max(0.0, give_up - time.monotonic()))
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            for part in self._parts.values():
                part.kill()
        return [name for name, part in self._parts.items() if part.wait() != 0]

    def _start_inference(self, host: str) -> None:
        ports, workers = self._plan.ports, self._plan.workers
        settings = {
            "FACET_HOST": host,
            "FACET_PORT": str(ports.shared),
            "FACET_WORKER_PORT": str(ports.worker),
            "FACET_METRICS_PORT": str(ports.inference_metrics),
        }
        settings |= {"FACET_WORKERS": str(workers)} if workers else {}
        self._run(_part("inference", host), [sys.executable, "-m", self._plan.inference], settings)

    def _start_web(self, host: str) -> None:
        ports = self._plan.ports
        settings = {
            "FACET_WEB_HOST": host,
            "FACET_WEB_PORT": str(ports.web),
            "FACET_WEB_METRICS_PORT": str(ports.web_metrics),
            "FACET_INFERENCE_TARGET": f"{LOOPBACK}:{ports.internal}",
        }
        if self._plan.web_replicas == 1:
            settings["FACET_DRAIN_SECONDS"] = "0"  # there is no other gateway that Envoy could turn to
        command = [sys.executable, "-m", "gunicorn", "--config", str(ROOT / "services/web/gunicorn.conf.py")]
        self._run(_part("web", host), command, settings)

    def _run(self, name: str, command: list[str], settings: dict[str, str]) -> None:
        with (self._plan.logs / f"{name}.log").open("wb") as log:
            self._parts[name] = subprocess.Popen(
                command,
                env=os.environ | settings,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,  # Ctrl-C at the terminal reaches this process alone, which stops the parts
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - there are no threads here
            )

    def _wait_until_ready(self) -> None:
        give_up = time.monotonic() + READY_SECONDS
        while not _answers(f"{self._plan.scheme}://{LOOPBACK}:{self._plan.ports.edge}/readyz"):
            if ended := self._ended():
                raise CannotServe(self._why(ended[0]))
            if time.monotonic() > give_up:
                raise CannotServe(f"not ready after {READY_SECONDS} s; the logs are in {self._plan.logs}")
            time.sleep(0.1)

    def _ended(self) -> list[str]:
        return [name for name, part in self._parts.items() if part.poll() is not None]

    def _why(self, name: str) -> str:
        """Return the reason that a part logged before it ended, or its last lines."""
        lines = (self._plan.logs / f"{name}.log").read_text().splitlines()
        reason = "\n".join(lines[-5:])
        for line in lines:
            with suppress(ValueError, AttributeError):  # not every line is a JSON object
                entry = json.loads(line)
                if entry.get("level") == "CRITICAL":
                    reason = entry["message"]
                    break
        return f"{name} ended with exit code {self._parts[name].returncode}: {reason}"


def _part(tier: str, host: str) -> str:
    return tier if host == LOOPBACK else f"{tier}-{host}"


def _tier(part: str) -> str:
    return part.partition("-")[0]


def _end_with_parent() -> None:
    """Have the kernel stop this part when `make serve` is killed (Linux only; elsewhere it keeps running)."""
    pr_set_pdeathsig = 1
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise CannotServe(f"port {port} is not free ({error.strerror}); see PORT= and BASE_PORT=") from error


def _answers(url: str) -> bool:
    try:
        with DIRECT.open(url, timeout=2) as answer:
            return bool(answer.status == 200)  # noqa: PLR2004
    except OSError:
        return False
