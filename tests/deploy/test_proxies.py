"""Health checks and the drain script reach their own service directly, whatever the proxy variables say."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROXY = "http://127.0.0.1:9"  # the discard port: nobody listens
PROXIES = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), PROXY)
needs_busybox = pytest.mark.skipif(  # CI installs it
    not shutil.which("busybox") and os.environ.get("CI") != "true", reason="busybox is not installed"
)


class StandIn(ThreadingHTTPServer):
    """A stand-in for the gateway and for Envoy's admin interface."""

    status = 200
    active = 1

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    server: StandIn

    def do_GET(self) -> None:
        self.server.requests.append(f"{self.command} {self.path.partition('?')[0]}")
        body = b""
        if "/stats" in self.path:  # one request ends between two looks
            body = f"http.edge.downstream_rq_active: {self.server.active}\n".encode()
            self.server.active = 0
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[StandIn]:
    with StandIn() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def check(command: list[str]) -> int:
    done = subprocess.run(command, env=os.environ | PROXIES, capture_output=True, check=False, timeout=60)
    return done.returncode


def health_check(dockerfile: str, port: int, service: StandIn) -> list[str]:
    """The image's own command, for a service on another port."""
    found = re.search(r"^HEALTHCHECK .*?CMD (\[.*?\])$", (ROOT / dockerfile).read_text(), re.DOTALL | re.MULTILINE)
    assert found
    command = [part.replace(str(port), str(service.server_port)) for part in json.loads(found[1])]
    assert str(service.server_port) in " ".join(command)
    programs = {"python": sys.executable, "/usr/local/bin/busybox": "busybox"}
    return [programs[command[0]], *command[1:]]


@pytest.mark.parametrize(
    ("dockerfile", "port", "path"),
    [
        ("services/web/Dockerfile", 8000, "/healthz"),
        pytest.param("envoy/Dockerfile", 9901, "/ready", marks=needs_busybox),
    ],
)
def test_an_images_health_check_ignores_proxies(service: StandIn, dockerfile: str, port: int, path: str) -> None:
    """It passes with the service's 200, and fails with any other status."""
    command = health_check(dockerfile, port, service)
    assert check(command) == 0
    assert service.requests == [f"GET {path}"]
    service.status = 503
    assert check(command) != 0


@needs_busybox
def test_draining_envoy_ignores_proxies(service: StandIn, tmp_path: Path) -> None:
    """It makes Envoy fail its health check, and ends when no request is in progress."""
    script = tmp_path / "drain.sh"
    script.write_text((ROOT / "envoy/drain.sh").read_text().replace("9901", str(service.server_port)))
    assert check(["busybox", "sh", str(script), "0"]) == 0
    assert service.requests == ["POST /healthcheck/fail", "GET /stats", "GET /stats"]
