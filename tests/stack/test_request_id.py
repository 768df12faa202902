"""A request has one id: in the answer's header and body, and in the logs of all tiers."""

import http.client
import json
import re
import socket
from functools import partial

import grpc
import httpx
import pytest

from protos import infer_pb2, infer_pb2_grpc
from tests.stack.conftest import FrontDoor
from tests.stack.running import wait_for

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def check_logged(stack: FrontDoor, request_id: str, *parts: str) -> None:
    """Wait until these parts have logged the id."""

    def logged(part: str) -> bool:
        return request_id in [line.get("request_id") for line in stack.log_lines(part)]

    for part in parts:
        wait_for(partial(logged, part), f"{part} logs {request_id}")


@pytest.mark.parametrize(
    "given",
    [
        "3f0c7a6e-0000-4000-8000-00000000beef",  # a form in which Envoy could hide a digit
        "!" + 126 * "a" + "~",
        '"\\{}%REQ(:PATH)%',
    ],
)
def test_a_valid_id_of_the_client_is_kept(stack: FrontDoor, client: httpx.Client, given: str) -> None:
    """1 to 128 visible ASCII characters."""
    refused = client.post("/predict", content=b"no image", headers={"X-Request-ID": given})
    assert refused.json()["requestId"] == refused.headers["X-Request-ID"] == given
    check_logged(stack, given, "envoy", "web", "inference")


@pytest.mark.parametrize(
    "given",
    [
        [],
        [b""],
        [b"invalid-" * 17],
        [b"invalid-" * 1000],
        [b"invalid- id"],
        [b"invalid-\tid"],
        [b"invalid-\xe9"],
        ["invalid-é".encode()],
        [b"a", b"invalid- id"],
    ],
    ids=["none", "empty", "long", "very long", "a space", "a tab", "Latin-1", "UTF-8", "repeated"],
)
def test_any_other_id_is_replaced_at_the_edge(stack: FrontDoor, client: httpx.Client, given: list[bytes]) -> None:
    """By one that every tier uses; no tier logs what the client sent."""
    headers = [(b"X-Request-ID", value) for value in given]
    refused = client.post("/predict", content=b"no image", headers=headers)
    made = refused.headers["X-Request-ID"]
    assert UUID.fullmatch(made)
    assert refused.json()["requestId"] == made
    check_logged(stack, made, "envoy", "web", "inference")
    assert UUID.fullmatch(client.get("/healthz", headers=headers).headers["X-Request-ID"])
    logged = {
        str(line.get("request_id", "")) for part in ("envoy", "web", "inference") for line in stack.log_lines(part)
    }
    assert not [each for each in logged if "invalid-" in each]


@pytest.mark.parametrize(("given", "kept"), [("grpc-7", True), ("", False), ("a" * 129, False), ("two words", False)])
def test_a_grpc_call_has_one_id_too(stack: FrontDoor, given: str, *, kept: bool) -> None:
    """In its initial metadata, or in the trailers of a call that fails at once."""
    with grpc.insecure_channel(stack.edge) as channel:
        call = infer_pb2_grpc.InferenceStub(channel).Predict.future(
            infer_pb2.Image(raw_data=b"no image"), metadata=(("x-request-id", given),), timeout=60
        )
        assert call.code() is grpc.StatusCode.INVALID_ARGUMENT
        found = str(dict([*call.initial_metadata(), *call.trailing_metadata()])["x-request-id"])
    assert (found == given) if kept else UUID.fullmatch(found)
    check_logged(stack, found, "envoy", "inference")


@pytest.mark.parametrize("given", [b"d" * 200, b"d\xe9", b"d d"], ids=["long", "Latin-1", "a space"])
@pytest.mark.parametrize(
    ("head", "early"),
    [
        (b"GET / HTTP/1.1", True),  # no Host
        (b"GET /#fragment HTTP/1.1\r\nHost: a", True),
        (b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade", False),
    ],
)
def test_a_request_that_envoy_refuses_has_one_id_too(
    stack: FrontDoor, head: bytes, given: bytes, *, early: bool
) -> None:
    """Envoy refuses some requests before it replaces their ids; then the answer and the log have what was sent, cut."""
    host, _, port = stack.edge.partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(head + b"\r\nX-Request-ID: " + given + b"\r\n\r\n")
        response = http.client.HTTPResponse(connection)
        response.begin()
        request_id = json.loads(response.read())["requestId"]
    assert (UUID.fullmatch(request_id) is None) == early
    assert len(request_id) <= 128
    check_logged(stack, request_id, "envoy")
