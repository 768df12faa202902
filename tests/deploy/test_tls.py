"""TLS and mTLS agree between Envoy, compose, Kubernetes and what make certificates makes."""

from __future__ import annotations

import re
import socket
import ssl
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import inference.tls
import kubernetes_validate
import pytest
import web.tls
import yaml
from certificates import TIERS, Authority, make_all
from cryptography import x509
from envoy_tls import render

from tests.deploy.conftest import COMPONENTS
from tests.deploy.manifests import ROOT, Manifests, render_with

FOLDER = "/etc/facet/tls"
FILES = {"tls.crt", "tls.key", "ca.crt"}


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Manifests:
    """The overlay for production with all components."""
    components = [*COMPONENTS, "keys", "rate-limit", "mtls"]
    return render_with("overlays/production", components, tmp_path_factory.mktemp("k8s"))


def names_in(config: dict[str, Any]) -> dict[str, list[str]]:
    """Give the names that Envoy takes from whom it is called by, and from whom it calls."""
    found = {}
    resources = config["static_resources"]
    for place in (*resources["clusters"], *resources["listeners"]):
        socket = place.get("transport_socket") or place.get("filter_chains", [{}])[0].get("transport_socket")
        if socket:
            tls = socket["typed_config"]["common_tls_context"]
            checked = tls.get("combined_validation_context", {}).get("default_validation_context", {})
            found[place["name"]] = [n["matcher"]["exact"] for n in checked.get("match_typed_subject_alt_names", ())]
    return found


def test_each_tier_takes_the_others_by_their_names() -> None:
    """Those in the certificates; itself besides, for its own health check."""
    assert names_in(yaml.safe_load(render("tiers"))) == {
        "web": ["web"],
        "inference": ["inference"],
        "internal": ["web"],
    }
    assert names_in(yaml.safe_load(render("edge"))) == {"edge": []}
    assert web.tls.CALLERS == ("envoy", "web")
    assert inference.tls.CALLERS == ("envoy", "inference")


def test_tls_adds_to_the_configuration_and_changes_nothing() -> None:
    """But for the time that a connection to the gateway may take, which then holds a handshake."""
    plain = yaml.safe_load((ROOT / "envoy/envoy.yaml").read_text())
    added = yaml.safe_load(render("edge", "tiers"))
    for place in (*added["static_resources"]["clusters"], *added["static_resources"]["listeners"]):
        place.pop("transport_socket", None)
        place.get("filter_chains", [{}])[0].pop("transport_socket", None)
    (gateway,) = (found for found in added["static_resources"]["clusters"] if found["name"] == "web")
    gateway["connect_timeout"] = "0.5s"
    assert added == plain


def test_the_certificates_have_the_tiers_names(tmp_path: Path) -> None:
    """The files are called as Kubernetes' secrets call them, and Envoy finds them so."""
    make_all(tmp_path, "localhost", "faces.example.com")
    for tier in TIERS:
        made = x509.load_pem_x509_certificate((tmp_path / tier / "tls.crt").read_bytes())
        names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == [tier]
        assert {path.name for path in (tmp_path / tier).iterdir()} == FILES
    said = "".join(path.read_text() for path in (ROOT / "envoy/sds").iterdir())
    assert {Path(name).name for name in re.findall(r"filename: (\S+)\}", said)} == FILES


def strict(folder: Path, purpose: ssl.Purpose) -> ssl.SSLContext:
    """Give the context that Python makes from 3.13 on."""
    context = ssl.create_default_context(purpose, cafile=str(folder / "ca.crt"))
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_the_certificates_stand_up_to_the_strict_rules(tmp_path: Path) -> None:
    """Those of RFC 5280, which Python asks for from 3.13 on, as in the images: at both ends of a connection."""
    make_all(tmp_path, "localhost")
    server, client = (
        strict(tmp_path / "web", ssl.Purpose.CLIENT_AUTH),
        strict(tmp_path / "envoy", ssl.Purpose.SERVER_AUTH),
    )
    inside, outside = socket.socketpair()
    for end in (inside, outside):
        end.settimeout(60)
    with ThreadPoolExecutor(1) as beside:
        accepted = beside.submit(server.wrap_socket, inside, server_side=True)
        with client.wrap_socket(outside, server_hostname="web"), accepted.result() as encrypted:
            certificate: Any = encrypted.getpeercert()
    assert certificate["subjectAltName"] == (("DNS", "envoy"),)


def test_an_authority_that_stands_up_to_them_is_kept(tmp_path: Path) -> None:
    """One whose certificate does not say that it may sign is made anew."""
    folder = tmp_path / "authority"

    def authority() -> bytes:
        Authority(folder)
        return (folder / "tls.crt").read_bytes()

    first = authority()
    assert authority() == first
    make_all(tmp_path, "localhost")
    for name in ("tls.key", "tls.crt"):
        (folder / name).write_bytes((tmp_path / "web" / name).read_bytes())
    assert authority() not in (first, (tmp_path / "web/tls.crt").read_bytes())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("narrow_umask")
def test_who_may_read_the_keys(tmp_path: Path) -> None:
    """The authority's: who made it. The tiers': the users of their containers, too, whatever the umask was."""
    make_all(tmp_path, "localhost")
    assert (mode(tmp_path / "authority"), mode(tmp_path / "authority/tls.key")) == (0o700, 0o600)
    for name in (*TIERS, "edge"):
        assert mode(tmp_path / name) == 0o755
        assert {mode(path) for path in (tmp_path / name).iterdir()} == {0o644}


def test_make_shuts_the_folder_of_secrets_each_time(tmp_path: Path) -> None:
    """Also one that is there already: but for it, others on the machine could read the tiers' keys."""
    rules = (ROOT / "Makefile").read_text()
    (shut,) = re.findall(r"^SECRETS = (.+)$", rules, re.MULTILINE)
    (tmp_path / ".secrets").mkdir(mode=0o755)
    subprocess.run(["bash", "-c", shut], cwd=tmp_path, check=True)
    assert mode(tmp_path / ".secrets") == 0o700
    makers = re.findall(r"^\t@\$\(SECRETS\); \$\(BIN\)/python tools/(\w+)\.py", rules, re.MULTILINE)
    assert makers == ["certificates", "keys", "envoy_tls"]
    assert rules.count("mkdir -p -m 700 .secrets") == 1


def test_somebody_elses_certificate_at_the_front_door_stays(tmp_path: Path) -> None:
    """The tiers get new ones all the same, and so does the front door whose certificate is ours."""
    folder, theirs = tmp_path / "tls", Authority(tmp_path / "theirs")

    def certificates() -> list[bytes]:
        return [(folder / name / "tls.crt").read_bytes() for name in ("edge", "web")]

    make_all(folder, "localhost")
    first = certificates()
    make_all(folder, "localhost")
    assert not set(certificates()) & set(first)
    theirs.sign(folder / "edge", "faces.example.com")
    edge, web = certificates()
    make_all(folder, "localhost")
    assert certificates()[0] == edge
    assert certificates()[1] != web


def test_compose_mounts_what_the_settings_name() -> None:
    """For each tier its own folder alone; and the health checks have a certificate."""
    services = yaml.safe_load((ROOT / "deploy/docker-compose.mtls.yml").read_text())["services"]
    assert set(services) == set(TIERS)
    for tier, service in services.items():
        assert f"../.secrets/tls/{tier}:{FOLDER}:ro" in service["volumes"]
        if tier != "envoy":
            assert service["environment"] == {"FACET_TLS_FOLDER": FOLDER}
            assert service["healthcheck"]["test"][-1] == FOLDER
    (edge,) = yaml.safe_load((ROOT / "deploy/docker-compose.tls.yml").read_text())["services"].values()
    assert "../.secrets/tls/edge:/etc/facet/edge-tls:ro" in edge["volumes"]
    dockerfile = (ROOT / "envoy/Dockerfile").read_text()
    assert re.search(r"^COPY --chmod=0644 envoy/sds/\*\.yaml /etc/facet/sds/$", dockerfile, re.MULTILINE)


def test_kubernetes_gives_each_tier_its_own_secret(sealed: Manifests) -> None:
    """For the name by which the others know it, and nobody the key of another."""
    certificates = {c["spec"]["secretName"]: c["spec"].get("dnsNames") for c in sealed.of("Certificate")}
    for tier in TIERS:
        assert certificates[f"{tier}-tls"] == [tier]
        secrets = [v["secret"]["secretName"] for v in sealed.pod(tier)["spec"]["volumes"] if "secret" in v]
        assert secrets == [f"{tier}-tls"]
        mounts = [m["mountPath"] for m in sealed.container(tier)["volumeMounts"] if m["name"] == "tls"]
        assert mounts == [FOLDER]
    for tier in TIERS[1:]:
        assert {"name": "FACET_TLS_FOLDER", "value": FOLDER} in sealed.container(tier)["env"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = sealed.container(tier)[probe]
            assert asked["exec"]["command"][-1] == FOLDER
            assert not {"grpc", "httpGet"} & set(asked)


def test_kubernetes_has_the_configuration_that_is_made(sealed: Manifests) -> None:
    """In the ConfigMap that Envoy's pods mount, so that a change of it rolls them."""
    (mounted,) = (v["configMap"]["name"] for v in sealed.pod("envoy")["spec"]["volumes"] if v["name"] == "config")
    assert sealed.one("ConfigMap", mounted)["data"]["envoy.yaml"] == render("tiers")


def test_every_object_is_valid(sealed: Manifests) -> None:
    """Those that Kubernetes has a schema of."""
    for found in sealed.objects:
        if found["apiVersion"].partition("/")[0] not in (
            "cert-manager.io",
            "monitoring.coreos.com",
            "gateway.networking.k8s.io",
        ):
            assert kubernetes_validate.validate(found, "1.32", strict=True)
