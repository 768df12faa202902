"""The gateway's metrics: over all processes of gunicorn, across reloads, and without gunicorn."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.stack.running import ROOT, free_base_port, wait_for

# As `flask --app web.app run` and other WSGI servers do.
WITHOUT_GUNICORN = """
from web.app import create_app
from web.settings import Settings
client = create_app(Settings(inference_target="127.0.0.1:1")).test_client()
assert client.get("/healthz").status_code == 200
print(client.get("/metrics", base_url="http://localhost:8001").text)
"""


def healthz_count(text: str) -> float:
    """Read how often /healthz was answered."""
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return sum(s.value for s in samples if s.name == "facet_http_requests_total" and s.labels["route"] == "/healthz")


def test_counts_survive_reloads(tmp_path: Path) -> None:
    """SIGHUP replaces the processes. Their counts stay in the one folder, which is gone after the end."""
    port = free_base_port()
    ports = {"FACET_WEB_HOST": "127.0.0.1", "FACET_WEB_PORT": str(port), "FACET_WEB_METRICS_PORT": str(port + 1)}
    command = [sys.executable, "-m", "gunicorn", "--config", "services/web/gunicorn.conf.py"]
    environment = {
        "PATH": os.environ["PATH"],
        "TMPDIR": str(tmp_path),
        "FACET_LOG_LEVEL": "WARNING",
        "FACET_DRAIN_SECONDS": "0",
    } | ports
    gunicorn = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:

        def is_up() -> bool:
            try:
                return httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
            except httpx.TransportError:
                return False

        def pids() -> set[int]:
            return {process.pid for process in psutil.Process(gunicorn.pid).children()}

        def counted() -> float:
            return healthz_count(httpx.get(f"http://127.0.0.1:{port + 1}/metrics").text)

        wait_for(is_up, "the gateway is up")
        for _ in range(3):
            before, old = counted(), pids()
            assert before > 0
            gunicorn.send_signal(signal.SIGHUP)
            wait_for(lambda old=old: len(pids()) == 2 and not pids() & old, "all processes are new")  # type: ignore[misc]
            wait_for(is_up, "the gateway is up again")
            assert counted() > before
            assert len(list(tmp_path.glob("facet-metrics-*"))) == 1
    finally:
        gunicorn.terminate()
        assert gunicorn.wait(30) == 0
    assert list(tmp_path.iterdir()) == []


def test_without_gunicorn_a_process_shows_its_own_metrics() -> None:
    """No variable and no folder are needed."""
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_GUNICORN], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert healthz_count(done.stdout) == 1
