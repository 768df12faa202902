"""API keys, TLS and mTLS in containers: each tier can read what is mounted for it, and finds the others."""

from __future__ import annotations

import shutil
import ssl
from pathlib import Path

import httpx
from certificates import make_all
from envoy_tls import render
from keys import add_key

from tests.stack.compose import ComposeStack, compose_stack
from tests.stack.running import ROOT


def test_keys_tls_and_mtls_in_containers(compose: ComposeStack, face_file: bytes, tmp_path: Path) -> None:
    """With the overrides, and keys and certificates of its own beside them: all are healthy, and a key opens."""
    del compose  # it says that there is an engine
    deploy, secrets = tmp_path / "deploy", tmp_path / ".secrets"
    deploy.mkdir()
    for file in (ROOT / "deploy").glob("docker-compose*.yml"):
        shutil.copy(file, deploy)
    make_all(secrets / "tls", "localhost", "127.0.0.1")
    key = add_key(secrets / "keys/keys.yaml", "alice")
    (secrets / "envoy.yaml").write_text(render("edge", "tiers"))
    overrides = [str(deploy / f"docker-compose.{option}.yml") for option in ("keys", "tls", "mtls")]
    trusted = ssl.create_default_context(cafile=secrets / "tls/authority/tls.crt")
    with (
        compose_stack("security", overrides, first=deploy / "docker-compose.yml", FACET_WORKERS="1") as stack,
        httpx.Client(base_url=f"https://{stack.edge}", verify=trusted, timeout=60) as http,
    ):
        for tier in ("inference", "web", "envoy"):
            stack.wait_until_healthy(stack.container(tier))
        assert http.post("/predict", content=face_file).status_code == 401
        answer = http.post("/predict", content=face_file, headers={"X-API-Key": key})
        assert (answer.status_code, len(answer.json()["results"])) == (200, 1)
