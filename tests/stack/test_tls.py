"""TLS at the edge and mTLS between the tiers: who has the right certificate is served, and nobody else."""

from __future__ import annotations

import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from certificates import TIERS, Authority, make_all
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos import infer_pb2, infer_pb2_grpc
from tests.stack.running import Load, RunningStack, running_stack, wait_for

SILENT = 700  # connections: five for each thread of the gateway's two processes


@dataclass
class Sealed:
    """A stack with TLS everywhere, and its certificates."""

    stack: RunningStack
    folder: Path
    strangers: Path  # folders with certificates that must not open anything

    @property
    def url(self) -> str:
        return f"https://{self.stack.edge}"

    @property
    def ca(self) -> Path:
        return self.folder / "authority/tls.crt"

    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, verify=ssl.create_default_context(cafile=self.ca), timeout=60)

    def port(self, door: str) -> int:
        """Where a tier listens, behind the edge."""
        return self.stack.base + {"web": 0, "metrics": 1, "internal": 2, "shared": 3, "own": 7}[door]


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sealed]:
    """With two workers; and certificates that are expired, for another name, or of another authority."""
    folder = tmp_path_factory.mktemp("tls")
    make_all(folder, "localhost", "127.0.0.1")
    strangers = folder / "strangers"
    authority, another = Authority(folder / "authority"), Authority(strangers / "authority")
    for name in TIERS:
        another.sign(strangers / f"{name} of another authority", name)
        authority.sign(strangers / f"{name} expired", name, days=-1)
    authority.sign(strangers / "somebody else", "prometheus")
    arguments = ("--workers=2", f"--mtls={folder}", f"--edge-tls={folder / 'edge'}")
    with running_stack(folder / "logs", *arguments) as stack:
        yield Sealed(stack, folder, strangers)


def credentials(authority: Path, own: Path | None) -> grpc.ChannelCredentials:
    key, certificate = ((own / name).read_bytes() if own else None for name in ("tls.key", "tls.crt"))
    return grpc.ssl_channel_credentials(authority.read_bytes(), key, certificate)


def grpc_status(sealed: Sealed, door: str, own: Path | None) -> grpc.StatusCode:
    """Ask a tier for its health over gRPC, with a certificate or without."""
    named = (("grpc.ssl_target_name_override", "envoy" if door == "internal" else "inference"),)
    with grpc.secure_channel(f"127.0.0.1:{sealed.port(door)}", credentials(sealed.ca, own), named) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            stub.Check(health_pb2.HealthCheckRequest(service="Inference"), timeout=20)
        except grpc.RpcError as error:
            found: Any = error
            code: grpc.StatusCode = found.code()
            return code
    return grpc.StatusCode.OK


def web_answers(sealed: Sealed, own: Path | None) -> bool:
    """Ask the gateway whether it is alive, past Envoy."""
    context = ssl.create_default_context(cafile=sealed.ca)
    context.check_hostname = False
    if own:
        context.load_cert_chain(own / "tls.crt", own / "tls.key")
    try:
        return httpx.get(f"https://127.0.0.1:{sealed.port('web')}/healthz", verify=context, timeout=60).is_success
    except httpx.TransportError:
        return False


def test_a_picture_goes_through_all_tiers(sealed: Sealed, face_file: bytes) -> None:
    """Over HTTPS and over gRPC with TLS; and what a tier shows on its port for metrics is as ever."""
    with sealed.http() as http:
        answer = http.post("/predict", files={"image": face_file})
    assert (answer.status_code, len(answer.json()["results"])) == (200, 1)
    with grpc.secure_channel(sealed.stack.edge, credentials(sealed.ca, None)) as channel:
        stub = infer_pb2_grpc.InferenceStub(channel)
        assert len(stub.Predict(infer_pb2.Image(raw_data=face_file), timeout=60).results) == 1
        answers = stub.PredictStream(iter([infer_pb2.Image(raw_data=face_file)]), timeout=60)
        assert [len(found.results) for found in answers] == [1]
    for url in sealed.stack.metrics_urls.values():
        assert httpx.get(url, timeout=60).status_code == 200


def test_the_edge_has_nothing_without_tls(sealed: Sealed) -> None:
    """And who does not know its authority goes away by himself."""
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://{sealed.stack.edge}/healthz", timeout=60)
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{sealed.url}/healthz", timeout=60)


def test_a_worker_serves_envoy_alone(sealed: Sealed) -> None:
    """On its own port and on the shared one; whoever else asks, with whatever certificate, is refused."""
    for door in ("own", "shared"):
        assert grpc_status(sealed, door, sealed.folder / "envoy") is grpc.StatusCode.OK
        for stranger in ("envoy of another authority", "envoy expired", None):
            own = sealed.strangers / stranger if stranger else None
            assert grpc_status(sealed, door, own) is grpc.StatusCode.UNAVAILABLE, stranger
        for own in (sealed.strangers / "somebody else", sealed.folder / "web"):
            assert grpc_status(sealed, door, own) is grpc.StatusCode.PERMISSION_DENIED, own
        with grpc.insecure_channel(f"127.0.0.1:{sealed.port(door)}") as channel, pytest.raises(grpc.RpcError):
            infer_pb2_grpc.InferenceStub(channel).Predict(infer_pb2.Image(), timeout=20)


def test_a_certificate_for_another_name_calls_no_method(sealed: Sealed) -> None:
    """Each of them asks for it, also those that stream."""
    target, named = f"127.0.0.1:{sealed.port('own')}", (("grpc.ssl_target_name_override", "inference"),)
    own = credentials(sealed.ca, sealed.strangers / "somebody else")
    with grpc.secure_channel(target, own, named) as channel:
        stub = infer_pb2_grpc.InferenceStub(channel)
        health: Any = health_pb2_grpc.HealthStub(channel)
        calls = (
            lambda: stub.Predict(infer_pb2.Image(), timeout=20),
            lambda: list(stub.PredictStream(iter([infer_pb2.Image()]), timeout=20)),
            lambda: next(health.Watch(health_pb2.HealthCheckRequest(), timeout=20)),
        )
        for call in calls:
            with pytest.raises(grpc.RpcError) as refused:
                call()
            error: Any = refused.value
            assert error.code() is grpc.StatusCode.PERMISSION_DENIED


def test_envoys_inner_door_opens_for_the_gateway_alone(sealed: Sealed) -> None:
    """It is the way to the workers without a key and a limit."""
    assert grpc_status(sealed, "internal", sealed.folder / "web") is grpc.StatusCode.OK
    for stranger in ("web of another authority", "web expired", "somebody else", None):
        own = sealed.strangers / stranger if stranger else None
        assert grpc_status(sealed, "internal", own) is grpc.StatusCode.UNAVAILABLE, stranger
    assert grpc_status(sealed, "internal", sealed.folder / "inference") is grpc.StatusCode.UNAVAILABLE


def test_the_gateway_serves_envoy_alone(sealed: Sealed) -> None:
    """And its log has no traceback of those whom it sent away."""
    assert web_answers(sealed, sealed.folder / "envoy")
    for stranger in ("envoy of another authority", "envoy expired", "somebody else", None):
        assert not web_answers(sealed, sealed.strangers / stranger if stranger else None), stranger
    assert not web_answers(sealed, sealed.folder / "inference")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{sealed.port('web')}/healthz", timeout=60)
    assert not [line for line in sealed.stack.log_lines("web") if "exc_info" in line or line["level"] == "ERROR"]


@pytest.mark.parametrize(("door", "beginning"), [("web", b""), ("web", b"\x16"), ("metrics", b"")])
def test_who_says_nothing_holds_no_thread(sealed: Sealed, door: str, beginning: bytes) -> None:
    """Others are answered while many more silent connections are open than the gateway has threads."""
    with ExitStack() as connections, sealed.http() as http:
        for _ in range(SILENT):
            silent = socket.create_connection(("127.0.0.1", sealed.port(door)), timeout=60)
            connections.enter_context(silent).sendall(beginning)
        for _ in range(5):
            assert http.get("/healthz").status_code == 200


def test_who_says_nothing_is_sent_away(sealed: Sealed) -> None:
    """A connection to the gateway that begins no handshake is not open for long."""
    with socket.create_connection(("127.0.0.1", sealed.port("web")), timeout=60) as silent:
        silent.sendall(b"\x16")
        with suppress(ConnectionResetError):
            assert silent.recv(1) == b""


def test_a_caller_who_leaves_is_noticed(sealed: Sealed, slow_file: bytes) -> None:
    """Though the gateway's connection is encrypted, and cannot be looked into."""
    with sealed.http() as http, suppress(httpx.TimeoutException):
        http.post("/predict", content=slow_file, headers={"X-Request-ID": "left"}, timeout=httpx.Timeout(60, read=1))

    def noticed() -> bool:
        return any(
            (line.get("request_id"), line.get("code")) == ("left", "CALLER_LEFT")
            for line in sealed.stack.log_lines("web")
        )

    wait_for(noticed, "the gateway has noticed")


@pytest.mark.parametrize("tier", ["web", "inference"])
def test_the_containers_own_health_check_has_a_certificate(sealed: Sealed, tier: str) -> None:
    """That of its tier."""
    folder = str(sealed.folder / tier)
    asked = {
        "web": ["web.healthcheck", folder, f"https://127.0.0.1:{sealed.port('web')}/healthz"],
        "inference": ["inference.process.healthcheck", f"127.0.0.1:{sealed.port('shared')}", "--tls", folder],
    }[tier]
    for command, exit_code in (
        (asked, 0),
        ([part.replace(folder, str(sealed.strangers / "somebody else")) for part in asked], 1),
    ):
        done = subprocess.run([sys.executable, "-m", *command], capture_output=True, check=False, timeout=60)
        assert done.returncode == exit_code, done.stderr


def test_new_certificates_cost_no_request(sealed: Sealed, face_file: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Envoy and the gateway take them as they come, the workers with a rolling restart."""
    monkeypatch.setenv("SSL_CERT_FILE", str(sealed.ca))
    stack, before = sealed.stack, {door: shown(sealed, door) for door in ("edge", "internal", "web", "own")}
    with Load(sealed.url, face_file, callers=3) as load:
        load.wait_for_more(20)
        make_all(sealed.folder, "localhost", "127.0.0.1")
        workers = {process.pid for process in stack.workers()}
        for master in (*stack.supervisors(), *stack.gateways()):
            master.send_signal(signal.SIGHUP)
        wait_for(lambda: not workers & {process.pid for process in stack.workers()}, "all workers are new")
        for door, serial in before.items():
            wait_for(partial(shows_another, sealed, door, serial), f"{door} shows another")
        load.wait_for_more(100)
    assert load.lost() == {}


def shows_another(sealed: Sealed, door: str, serial: int | None) -> bool:
    return shown(sealed, door) not in (None, serial)


def shown(sealed: Sealed, door: str) -> int | None:
    """Give the serial number of the certificate that is shown at a door."""
    port = int(sealed.stack.edge.rpartition(":")[2]) if door == "edge" else sealed.port(door)
    context = ssl.create_default_context(cafile=sealed.ca)
    context.check_hostname = False
    own = sealed.folder / ("web" if door == "internal" else "envoy")
    context.load_cert_chain(own / "tls.crt", own / "tls.key")
    context.set_alpn_protocols(["h2"])
    with (
        suppress(OSError),
        socket.create_connection(("127.0.0.1", port), timeout=20) as plain,
        context.wrap_socket(plain) as encrypted,
    ):
        certificate = encrypted.getpeercert(binary_form=True)
        assert certificate
        return x509.load_der_x509_certificate(certificate).serial_number
    return None


@pytest.mark.parametrize(
    ("tier", "stranger"), [("web", "somebody else"), ("inference", "inference of another authority")]
)
def test_envoy_takes_no_answer_of_a_stranger(sealed: Sealed, tier: str, stranger: str) -> None:
    """It is as if that tier were not there, until it has its own certificate again."""
    stack, own = sealed.stack, sealed.folder / tier
    kept = own.with_name(f"{tier}-kept")
    shutil.copytree(own, kept)
    for name in ("tls.crt", "tls.key"):
        shutil.copy(sealed.strangers / stranger / name, own / name)
    before = refused(stack, tier)
    replaced(stack, tier)
    wait_for(lambda: refused(stack, tier) > before, "Envoy has refused it")
    with sealed.http() as http:
        wait_for(lambda: http.get("/readyz").status_code == 503, "nobody is there")
        shutil.copytree(kept, own, dirs_exist_ok=True)
        replaced(stack, tier)
        wait_for(lambda: http.get("/readyz").status_code == 200, "it is healed")


def refused(stack: RunningStack, tier: str) -> float:
    """Count the certificates of a tier that Envoy has refused."""
    lines = httpx.get(stack.metrics_urls["envoy"], timeout=60).text.splitlines()
    kind, of = "envoy_cluster_ssl_fail_verify_", f'envoy_cluster_name="{tier}"'
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(kind) and of in line)


def replaced(stack: RunningStack, tier: str) -> None:
    """Have all processes of a tier end, and their masters start new ones."""
    found = stack.workers() if tier == "inference" else [p for master in stack.gateways() for p in master.children()]
    for process in found:
        process.kill()
