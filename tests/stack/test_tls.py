"""TLS at the edge: HTTP and gRPC clients that trust its certificate are served, and nothing is served without TLS."""

import ssl
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest
from cryptography import x509

from protos import infer_pb2, infer_pb2_grpc
from tests.stack.load import Load
from tests.stack.running import RunningStack, running_stack, wait_for
from tools.certificates import make_certificate


@dataclass
class SecureStack:
    """A stack with TLS at the edge, and its certificates."""

    stack: RunningStack
    folder: Path

    @property
    def url(self) -> str:
        return f"https://{self.stack.edge}"

    @property
    def authority(self) -> Path:
        return self.folder / "authority/tls.crt"

    def http(self) -> httpx.Client:
        context = ssl.create_default_context(cafile=self.authority)
        return httpx.Client(base_url=self.url, verify=context, timeout=60)

    def new_certificate(self) -> None:
        make_certificate(self.folder, "localhost", "127.0.0.1")

    def serial_number(self) -> int | None:
        """Return the serial number of the certificate that the edge shows."""
        host, _, port = self.stack.edge.rpartition(":")
        with suppress(OSError):
            pem = ssl.get_server_certificate((host, int(port)), ca_certs=str(self.authority), timeout=20)
            return x509.load_pem_x509_certificate(pem.encode()).serial_number
        return None


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureStack]:
    folder = tmp_path_factory.mktemp("tls")
    make_certificate(folder, "localhost", "127.0.0.1")
    with running_stack(folder / "logs", "--workers=1", f"--edge-tls={folder / 'edge'}") as stack:
        yield SecureStack(stack, folder)


def test_an_image_is_examined_over_https_and_over_grpc(secure: SecureStack, face_file: bytes) -> None:
    """Unary and streaming."""
    with secure.http() as http:
        answer = http.post("/predict", files={"image": face_file})
    assert (answer.status_code, len(answer.json()["results"])) == (200, 1)
    credentials = grpc.ssl_channel_credentials(secure.authority.read_bytes())
    with grpc.secure_channel(secure.stack.edge, credentials) as channel:
        stub = infer_pb2_grpc.InferenceStub(channel)
        assert len(stub.Predict(infer_pb2.Image(raw_data=face_file), timeout=60).results) == 1
        answers = stub.PredictStream(iter([infer_pb2.Image(raw_data=face_file)]), timeout=60)
        assert [len(found.results) for found in answers] == [1]


def test_the_edge_serves_nothing_without_tls(secure: SecureStack) -> None:
    """A client that does not know the authority rejects the certificate."""
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://{secure.stack.edge}/healthz", timeout=60)
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{secure.url}/healthz", timeout=60)


def test_the_metrics_are_served_without_tls(secure: SecureStack) -> None:
    """They have separate ports, which the edge does not route to."""
    for url in secure.stack.metrics_urls.values():
        assert httpx.get(url, timeout=60).status_code == 200


def test_a_new_certificate_loses_no_request(
    secure: SecureStack, face_file: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Envoy shows it to new connections as soon as the files change."""
    monkeypatch.setenv("SSL_CERT_FILE", str(secure.authority))
    before = secure.serial_number()
    assert before is not None
    with Load(secure.url, face_file, callers=3) as load:
        load.wait_for_more(20)
        secure.new_certificate()
        wait_for(lambda: secure.serial_number() not in (None, before), "the edge shows the new certificate")
        load.wait_for_more(20)
    assert load.lost() == {}
