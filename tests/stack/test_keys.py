"""API keys and the rate limit at the edge: a valid key is required, no log shows it, and each client has a limit."""

import asyncio
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from facet import AsyncClient, AsyncGrpcClient, Client, GrpcClient, ImageRefused, KeyRefused, ServiceUnavailable
from facet.command.app import app
from grpc_health.v1 import health_pb2, health_pb2_grpc
from playwright.sync_api import expect
from typer.testing import CliRunner

from protos import infer_pb2, infer_pb2_grpc
from tests.stack.browser import FacetPage, chromium
from tests.stack.running import ROOT, RunningStack, running_stack, wait_for
from tools.keys import add_key, names, remove_key

BURST = 100  # the burst that envoy/rate-limit/rate-limit.yaml allows one client
REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"


@dataclass
class Guarded:
    """A stack that requires a key, the file of public halves, and the keys."""

    stack: RunningStack
    file: Path
    keys: dict[str, str]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """With the keys of alice, bob and hasty, an expired key, and the rate limit."""
    folder = tmp_path_factory.mktemp("guarded")
    file = folder / "keys/keys.yaml"
    keys = {name: add_key(file, name) for name in ("alice", "bob", "hasty")} | {"late": add_key(file, "late", days=-1)}
    slow = folder / "rate-limit/rate-limit.yaml"  # even a slow machine sends more than one request per second
    shipped = (ROOT / "envoy/rate-limit/rate-limit.yaml").read_text()
    slow.parent.mkdir()
    slow.write_text(shipped.replace("tokens_per_fill: 20,", "tokens_per_fill: 1,"))
    assert slow.read_text() != shipped
    arguments = ("--workers=1", f"--keys={file.parent}", f"--rate-limit={slow.parent}")
    with running_stack(folder / "logs", *arguments) as stack:
        yield Guarded(stack, file, keys)


def post(guarded: Guarded, image: bytes, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(f"{guarded.stack.url}/predict", files={"image": image}, headers=named, timeout=60)


@pytest.mark.parametrize("form", ["X-API-Key: {}", "Authorization: Bearer {}"])
def test_a_valid_key_is_accepted(guarded: Guarded, face_file: bytes, form: str) -> None:
    """In either header."""
    name, _, value = form.format(guarded.keys["alice"]).partition(": ")
    answer = post(guarded, face_file, **{name: value})
    assert (answer.status_code, len(answer.json()["results"])) == (200, 1)


def test_if_both_headers_are_sent_both_must_be_valid(guarded: Guarded, face_file: bytes) -> None:
    """A valid key does not make up for an invalid one."""
    right, wrong = guarded.keys["alice"], "sesame"
    for first, second, status in ((right, right, 200), (right, wrong, 401), (wrong, right, 401)):
        answer = post(guarded, face_file, X_API_Key=first, Authorization=f"Bearer {second}")
        assert answer.status_code == status, (first == right, second == right)


def wrong_keys(guarded: Guarded) -> dict[str, str]:
    """Return invalid keys by what is wrong with them."""
    stranger = add_key(guarded.file.with_name("strangers"), "alice")
    guarded.file.with_name("strangers").unlink()
    head, _, signature = guarded.keys["alice"].split(".")
    _, claims, _ = guarded.keys["bob"].split(".")
    return {
        "none": "",
        "nonsense": "sesame",
        "of another service": stranger,
        "with another name": f"{head}.{claims}.{signature}",
        "unsigned": f"eyJhbGciOiJub25lIn0.{claims}.",
        "of yesterday": guarded.keys["late"],
    }


def test_without_a_valid_key_requests_are_refused(guarded: Guarded, face_file: bytes) -> None:
    """Over HTTP, with the JSON of all errors, whatever is wrong with the key."""
    for what, key in wrong_keys(guarded).items():
        answer = post(guarded, face_file, **({"X-API-Key": key} if key else {}), X_Request_ID="no-key")
        assert (answer.status_code, answer.json()) == (
            401,
            {
                "message": "a valid API key is required, as X-API-Key or as Authorization: Bearer",
                "code": "UNAUTHENTICATED",
                "requestId": "no-key",
            },
        ), what
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_grpc_says_unauthenticated(guarded: Guarded, face_file: bytes) -> None:
    """For Predict, PredictStream, reflection and unknown methods; a call with a key in its metadata succeeds."""
    image = infer_pb2.Image(raw_data=face_file)
    with grpc.insecure_channel(guarded.stack.edge) as channel:
        stub = infer_pb2_grpc.InferenceStub(channel)
        reflection: Any = channel.stream_stream(REFLECTION)
        nothing: Any = channel.unary_unary("/Inference/Nothing")
        for what, key in wrong_keys(guarded).items():
            metadata = (("x-api-key", key),) if key else ()
            for call in (
                lambda metadata: stub.Predict(image, metadata=metadata, timeout=60),
                lambda metadata: list(stub.PredictStream(iter([image]), metadata=metadata, timeout=60)),
                lambda metadata: list(reflection(iter([b""]), metadata=metadata, timeout=60)),
                lambda metadata: nothing(b"", metadata=metadata, timeout=60),
            ):
                with pytest.raises(grpc.RpcError) as refused:
                    call(metadata)
                error: Any = refused.value
                assert error.code() is grpc.StatusCode.UNAUTHENTICATED, what
                assert error.details() == "a valid API key is required, as x-api-key or as authorization: Bearer"
        answer = stub.Predict(image, metadata=(("authorization", f"Bearer {guarded.keys['bob']}"),), timeout=60)
        assert len(answer.results) == 1


def test_health_and_pages_need_no_key(guarded: Guarded) -> None:
    """Everything else does, however its path is spelled."""
    with closing(HTTPConnection(guarded.stack.edge)) as http:  # which sends a path as it is
        for path in ("/healthz", "/readyz", "/", "/docs", "/openapi.json", "/static/page.js", "/healthz?deep"):
            assert status_of(http, path) == 200, path
        for path in ("/predict", "/annotate", "/metrics", "/healthz/../predict", "//predict", "/static/../predict"):
            assert status_of(http, path) == 401, path
        assert status_of(http, "/static/..%2fpredict") == 404
    with grpc.insecure_channel(guarded.stack.edge) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        answer = health.Check(health_pb2.HealthCheckRequest(service="Inference"), timeout=60)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


def status_of(http: HTTPConnection, path: str) -> int:
    http.request("GET", path)
    with http.getresponse() as answer:
        answer.read()
        return answer.status


def test_the_log_has_the_name_and_never_the_key(guarded: Guarded, face_file: bytes) -> None:
    """No log of any tier and no file contains it."""
    post(guarded, face_file, X_API_Key=guarded.keys["bob"], X_Request_ID="by-bob")
    post(guarded, face_file, X_API_Key=guarded.keys["late"], X_Request_ID="too-late")

    def logged() -> dict[str, Any]:
        return {line.get("request_id", ""): line.get("key") for line in guarded.stack.log_lines("envoy")}

    wait_for(lambda: {"by-bob", "too-late"} <= set(logged()), "both are logged")
    assert (logged()["by-bob"], logged()["too-late"]) == ("bob", None)
    texts = [path.read_text() for path in (guarded.file, *guarded.stack.logs.glob("*.log"))]
    for key in guarded.keys.values():
        assert not any(key.rpartition(".")[2] in text for text in texts)


def test_a_key_is_added_and_revoked_while_others_are_served(guarded: Guarded, face_file: bytes) -> None:
    """Without a restart."""
    key = add_key(guarded.file, "carol")
    assert "carol" in names(guarded.file)
    wait_for(lambda: post(guarded, face_file, X_API_Key=key).status_code == 200, "carol's key is accepted")
    remove_key(guarded.file, "carol")
    wait_for(lambda: post(guarded, face_file, X_API_Key=key).status_code == 401, "carol's key is refused")
    assert post(guarded, face_file, X_API_Key=guarded.keys["alice"]).status_code == 200


def test_when_the_last_key_is_revoked_no_key_is_accepted(face_file: bytes, tmp_path: Path) -> None:
    """Envoy rejects an empty list of keys and would keep the one before."""
    file = tmp_path / "keys/keys.yaml"
    only = {"only": add_key(file, "only")}
    with running_stack(tmp_path / "logs", "--workers=1", f"--keys={file.parent}") as stack:
        alone = Guarded(stack, file, only)
        assert post(alone, face_file, X_API_Key=only["only"]).status_code == 200
        remove_key(file, "only")
        assert names(file) == []
        wait_for(lambda: post(alone, face_file, X_API_Key=only["only"]).status_code == 401, "it is refused")
        assert post(alone, face_file).status_code == 401
        later = add_key(file, "later")
        wait_for(lambda: post(alone, face_file, X_API_Key=later).status_code == 200, "another key is accepted")


def test_the_clients_send_a_key(guarded: Guarded, face_file: bytes) -> None:
    """All four; without one they raise KeyRefused and do not retry."""
    stack, key = guarded.stack, guarded.keys["alice"]
    for kind, where in ((Client, stack.url), (GrpcClient, stack.edge)):
        with kind(where, key=key) as client:
            assert len(client.detect(face_file).faces) == 1
        with kind(where) as client, pytest.raises(KeyRefused, match="UNAUTHENTICATED"):
            client.detect(face_file)
    with GrpcClient(stack.edge, key=key) as client:
        assert [len(found.faces) for found in client.stream([face_file])] == [1]  # type: ignore[union-attr]

    async def ask() -> None:
        async with AsyncClient(stack.url, key=key) as one, AsyncGrpcClient(stack.edge, key=key) as other:
            assert len((await one.detect(face_file)).faces) == len((await other.detect(face_file)).faces) == 1
            assert [len(found.faces) async for found in other.stream([face_file])] == [1]  # type: ignore[union-attr]

    asyncio.run(ask())


def test_the_command_takes_the_key_from_the_environment(guarded: Guarded, face_file: bytes, tmp_path: Path) -> None:
    """There the list of processes does not show it. There is an option, too."""
    image = tmp_path / "face.png"
    image.write_bytes(face_file)
    command = ["detect", str(image), "--url", guarded.stack.url, "--json"]
    assert "UNAUTHENTICATED" in CliRunner().invoke(app, command).output
    for done in (
        CliRunner(env={"FACET_API_KEY": guarded.keys["alice"]}).invoke(app, command),
        CliRunner().invoke(app, [*command, "--key", guarded.keys["alice"]]),
    ):
        assert (done.exit_code, "UNAUTHENTICATED" in done.output) == (0, False)


def test_the_page_asks_for_the_key(guarded: Guarded, face_file: bytes) -> None:
    """When a request is refused without one, and repeats the request with it."""
    with chromium() as browser, FacetPage(browser, guarded.stack.url) as page:
        expect(page.tab.get_by_label("API key")).to_be_hidden()
        page.choose(("face.png", "image/png", face_file))
        expect(page.tab.locator("#summary")).to_contain_text("A valid API key is required")
        page.tab.get_by_label("API key").fill(guarded.keys["alice"])
        page.tab.get_by_label("API key").press("Enter")
        expect(page.marks).to_have_count(1)
        assert page.errors == []


def test_a_client_above_its_limit_is_refused_and_others_are_not(guarded: Guarded, face_file: bytes) -> None:
    """Clients are the names of keys. 429 with Retry-After and what is left, over gRPC RESOURCE_EXHAUSTED."""
    hasty = {"X-API-Key": guarded.keys["hasty"]}
    with httpx.Client(base_url=guarded.stack.url, headers=hasty, timeout=60) as http:
        first = http.get("/predict")
        assert (first.status_code, first.headers["X-RateLimit-Limit"]) == (405, str(BURST))
        refused = wait_for(lambda: next((a for a in burst(http) if a.status_code == 429), None), "the limit is reached")
        assert refused.json()["code"] == "RATE_LIMITED"
        assert refused.json()["message"] == "too many requests; send fewer, and try again in a second"
        assert (refused.headers["Retry-After"], refused.headers["X-RateLimit-Remaining"]) == ("1", "0")
        with GrpcClient(guarded.stack.edge, key=guarded.keys["hasty"], retries=0) as client:
            assert (
                wait_for(lambda: limited(client), "gRPC is limited too") == f"RATE_LIMITED: {refused.json()['message']}"
            )
    answer = post(guarded, face_file, X_API_Key=guarded.keys["alice"])
    assert answer.status_code == 200
    assert int(answer.headers["X-RateLimit-Remaining"]) > BURST // 2


def test_without_a_key_an_address_is_a_client(guarded: Guarded) -> None:
    """Each address has its own limit, and a client cannot name itself."""
    here, there = (httpx.HTTPTransport(local_address=f"127.0.0.{number}") for number in (3, 4))
    with (
        httpx.Client(base_url=guarded.stack.url, transport=here) as one,
        httpx.Client(base_url=guarded.stack.url, transport=there) as other,
    ):
        refused = wait_for(lambda: next((a for a in alive(one) if a.status_code == 429), None), "the limit is reached")
        assert refused.headers["X-RateLimit-Limit"].startswith(str(BURST))
        assert 429 in {one.get("/healthz", headers={"X-Facet-Key": str(number)}).status_code for number in range(BURST)}
        assert other.get("/healthz").status_code == 200
        assert int(other.get("/healthz").headers["X-RateLimit-Remaining"]) >= BURST - 3


def alive(http: httpx.Client) -> list[httpx.Response]:
    return [http.get("/healthz") for _ in range(BURST)]


def burst(http: httpx.Client) -> list[httpx.Response]:
    return [http.get("/predict") for _ in range(BURST)]


def limited(client: GrpcClient) -> str:
    """Send empty images until one is refused for another reason, and return the reason."""
    for _ in range(BURST):
        with suppress(ImageRefused):
            try:
                client.detect(b"")
            except ServiceUnavailable as error:
                return str(error)
    return ""
