"""TLS at the edge: what it adds to Envoy's configuration, what compose mounts, and what `make certificates` makes."""

import os
import socket
import ssl
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from tests.deploy.manifests import ROOT
from tools.certificates import make_certificate
from tools.edge_tls import with_edge_tls

FOLDER = "/etc/facet/edge-tls"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_tls_changes_nothing_but_the_edge() -> None:
    """Envoy gets one transport socket more, on the listener for clients."""
    added = yaml.safe_load(with_edge_tls())
    (edge,) = (found for found in added["static_resources"]["listeners"] if found["name"] == "edge")
    assert edge["filter_chains"][0].pop("transport_socket")["name"] == "envoy.transport_sockets.tls"
    assert added == yaml.safe_load((ROOT / "envoy/envoy.yaml").read_text())


def test_compose_mounts_what_envoy_reads() -> None:
    """The configuration with TLS, the file that names the certificate, and the certificate."""
    (envoy,) = yaml.safe_load((ROOT / "deploy/docker-compose.tls.yml").read_text())["services"].values()
    mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in envoy["volumes"]}
    assert mounted == {
        "/etc/envoy/envoy.yaml": "../.secrets/envoy.yaml",
        "/etc/facet/sds": "../envoy/sds",
        FOLDER: "../.secrets/tls/edge",
    }
    assert "/etc/facet/sds/edge.yaml" in with_edge_tls()
    (secret,) = yaml.safe_load((ROOT / "envoy/sds/edge.yaml").read_text())["resources"]
    assert secret["tls_certificate"] == {
        "certificate_chain": {"filename": f"{FOLDER}/tls.crt"},
        "private_key": {"filename": f"{FOLDER}/tls.key"},
        "watched_directory": {"path": FOLDER},
    }


def test_make_writes_the_configuration_into_a_folder_that_nobody_else_can_enter(tmp_path: Path) -> None:
    """Even if the folder was there before; it protects the keys in it."""
    for name in ("Makefile", "envoy", "tools"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".secrets").mkdir(mode=0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", ".secrets/envoy.yaml", "TLS=on", f"PYTHON={sys.executable}"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    assert mode(tmp_path / ".secrets") == 0o700
    assert (tmp_path / ".secrets/envoy.yaml").read_text() == with_edge_tls()


def strict(purpose: ssl.Purpose, authority: Path) -> ssl.SSLContext:
    """Return the context that Python makes from 3.13 on."""
    context = ssl.create_default_context(purpose, cafile=authority / "tls.crt")
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


@pytest.mark.parametrize("name", ["localhost", "faces.example.com", "127.0.0.1"])
def test_strict_clients_accept_the_certificate_for_each_name(tmp_path: Path, name: str) -> None:
    """RFC 5280 to the letter, as Python checks from 3.13 on."""
    make_certificate(tmp_path, "localhost", "127.0.0.1", "faces.example.com")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(tmp_path / "edge/tls.crt", tmp_path / "edge/tls.key")
    client = strict(ssl.Purpose.SERVER_AUTH, tmp_path / "authority")
    inside, outside = socket.socketpair()
    for end in (inside, outside):
        end.settimeout(60)
    with ThreadPoolExecutor(1) as beside:
        accepted = beside.submit(server.wrap_socket, inside, server_side=True)
        with client.wrap_socket(outside, server_hostname=name) as encrypted, accepted.result():
            certificate: Any = encrypted.getpeercert()
    assert ("DNS", "faces.example.com") in certificate["subjectAltName"]


@pytest.mark.usefixtures("narrow_umask")
def test_envoys_user_can_read_the_key_and_only_its_owner_the_authoritys(tmp_path: Path) -> None:
    """Whatever the umask is."""
    make_certificate(tmp_path, "localhost")
    assert mode(tmp_path / "authority/tls.key") == 0o600
    assert mode(tmp_path / "edge") == 0o755
    assert {path.name: mode(path) for path in (tmp_path / "edge").iterdir()} == {"tls.crt": 0o644, "tls.key": 0o644}


def test_a_new_certificate_is_of_the_same_authority(tmp_path: Path) -> None:
    """Clients that trust it accept the new one."""
    files = [tmp_path / "authority/tls.crt", tmp_path / "edge/tls.crt"]
    make_certificate(tmp_path, "localhost")
    first = [file.read_bytes() for file in files]
    make_certificate(tmp_path, "localhost")
    second = [file.read_bytes() for file in files]
    assert first[0] == second[0]
    assert first[1] != second[1]
    issuer, issued = (x509.load_pem_x509_certificate(content) for content in second)
    issued.verify_directly_issued_by(issuer)


def test_a_certificate_that_exists_is_kept(tmp_path: Path) -> None:
    """`make certificates` never overwrites the one of a real service."""
    make_certificate(tmp_path, "localhost")
    before = (tmp_path / "edge/tls.crt").read_bytes()
    command = [sys.executable, "-m", "tools.certificates", "--folder", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        1,
        f"{tmp_path}/edge/tls.crt exists; delete it to make a new certificate\n",
    )
    assert (tmp_path / "edge/tls.crt").read_bytes() == before
