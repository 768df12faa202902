"""`python -m inference` with settings that cannot work: one clear line and an exit code."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

from tests.stack.running import free_base_port


def start(**settings: str) -> subprocess.CompletedProcess[str]:
    """Start the service on free ports of loopback, and wait for its end."""
    base = free_base_port()
    own = {"FACET_HOST": "127.0.0.1", "FACET_PORT": str(base), "FACET_WORKER_PORT": str(base + 1), "FACET_WORKERS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "inference"],
        env=os.environ | own | settings,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_a_port_in_use_ends_the_start() -> None:
    """Before any worker is started."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        ended = start(FACET_PORT=str(port))
    assert ended.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in ended.stdout
    assert "worker started" not in ended.stdout


def test_an_unknown_engine_ends_the_start() -> None:
    """The worker's exit code is the service's."""
    ended = start(FACET_ENGINE="caffe")
    assert ended.returncode == 3
    assert "there is no engine 'caffe'; FACET_ENGINE can be: tensorflow" in ended.stdout


def test_a_setting_out_of_range_is_named() -> None:
    """By its variable, without a traceback."""
    ended = start(FACET_WORKERS="17", FACET_MAX_PIXELS="many")
    assert ended.returncode == 2
    assert "FACET_WORKERS: Input should be less than or equal to 16" in ended.stderr
    assert "FACET_MAX_PIXELS: Input should be a valid integer" in ended.stderr
    assert "Traceback" not in ended.stderr
