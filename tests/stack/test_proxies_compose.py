"""The containers behind a corporate proxy, whose address Docker's client passes to every container."""

import json
from pathlib import Path

import httpx
import pytest

from tests.stack.compose import compose_stack

PROXY = "http://192.0.2.1:3128"  # TEST-NET-1: nothing answers


@pytest.mark.usefixtures("compose")  # which keeps it to --compose
def test_a_stack_behind_a_proxy_becomes_healthy_and_drains(tmp_path: Path, face_file: bytes) -> None:
    """No tier asks another, or itself, through the proxy."""
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), PROXY)
    override = tmp_path / "proxies.json"
    override.write_text(
        json.dumps({"services": {tier: {"environment": proxies} for tier in ("inference", "web", "envoy")}})
    )
    with compose_stack("proxied", [str(override)], FACET_WORKERS="1") as stack:
        assert httpx.post(f"{stack.url}/predict", content=face_file, timeout=60).status_code == 200
        drained = stack.execute(stack.container("envoy"), "/usr/local/bin/drain", "0")
        assert (drained.returncode, drained.stdout, drained.stderr) == (0, "", "")
