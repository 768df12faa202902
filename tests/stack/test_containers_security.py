"""API keys and TLS in containers: Envoy can read what is mounted for it."""

import shutil
import ssl
from pathlib import Path

import httpx

from tests.stack.compose import ComposeStack, compose_stack
from tests.stack.running import ROOT
from tools.certificates import make_certificate
from tools.edge_tls import with_edge_tls
from tools.keys import add_key


def test_keys_and_tls_in_containers(compose: ComposeStack, face_file: bytes, tmp_path: Path) -> None:
    """With both overrides, a new key and a new certificate, all services are healthy and the key is accepted."""
    del compose  # requested because it needs a container engine
    deploy, secrets = tmp_path / "deploy", tmp_path / ".secrets"
    deploy.mkdir()
    for file in (ROOT / "deploy").glob("docker-compose*.yml"):
        shutil.copy(file, deploy)
    shutil.copytree(ROOT / "envoy/sds", tmp_path / "envoy/sds")
    make_certificate(secrets / "tls", "localhost", "127.0.0.1")
    key = add_key(secrets / "keys/keys.yaml", "alice")
    (secrets / "envoy.yaml").write_text(with_edge_tls())
    overrides = [str(deploy / f"docker-compose.{option}.yml") for option in ("keys", "tls")]
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
