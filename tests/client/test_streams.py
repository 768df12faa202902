"""A stream goes on where it broke off, whatever ended it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from facet import AsyncGrpcClient, Detection, FacetError, GrpcClient, ServiceUnavailable

from protos import infer_pb2, infer_pb2_grpc


class StandInWorker(infer_pb2_grpc.InferenceServicer):
    """Answers with the picture's length for its width; at some lengths it first does something else, once."""

    def __init__(self, *, always: bool = False) -> None:
        self._trouble = {3: "busy", 5: "lost", 7: "replaced"}
        self._always = always

    def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802
        raise NotImplementedError

    def PredictStream(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802
        for image in request_iterator:
            length = len(image.raw_data)
            match self._trouble.get(length) if self._always else self._trouble.pop(length, ""):
                case "busy":
                    yield infer_pb2.InferResults(message="busy", code="BUSY")
                case "lost":
                    context.abort(grpc.StatusCode.INTERNAL, "Received RST_STREAM")
                case "replaced":
                    context.abort(grpc.StatusCode.UNAVAILABLE, "closing")
                case _ if length == 2:
                    yield infer_pb2.InferResults(message="no picture", code="INVALID_IMAGE")
                case _:
                    yield infer_pb2.InferResults(_meta_data=infer_pb2.MetaData(width=length))


def serve(worker: StandInWorker, host: str = "127.0.0.1") -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(4))
    infer_pb2_grpc.add_InferenceServicer_to_server(worker, server)
    port = server.add_insecure_port(f"{host}:0")
    server.start()
    yield f"{host}:{port}"
    server.stop(None).wait()


@pytest.fixture
def address() -> Iterator[str]:
    """A worker that recovers from all of its troubles."""
    yield from serve(StandInWorker())


@pytest.fixture
def lost_address() -> Iterator[str]:
    """A worker that never does."""
    yield from serve(StandInWorker(always=True))


PICTURES = [b"x" * length for length in range(1, 10)]
EXPECTED = [1, "INVALID_IMAGE", *range(3, 10)]


def plain(entry: Detection | FacetError) -> int | str:
    return entry.width if isinstance(entry, Detection) else entry.code


def test_each_picture_has_one_answer_in_its_place(address: str) -> None:
    """Those that met a busy worker, a lost one, or one that was being replaced are sent again."""
    with GrpcClient(address) as client:
        assert [plain(entry) for entry in client.stream(PICTURES)] == EXPECTED


def test_the_async_stream_does_the_same(address: str) -> None:
    """Also from an async source."""

    async def ask() -> list[int | str]:
        async def pictures() -> Any:
            for picture in PICTURES:
                yield picture

        async with AsyncGrpcClient(address) as client:
            return [plain(entry) async for entry in client.stream(pictures())]

    assert asyncio.run(ask()) == EXPECTED


def test_a_service_that_does_not_recover_ends_the_stream(lost_address: str) -> None:
    """After the answers that there were."""
    with GrpcClient(lost_address, retries=2) as client:
        stream = client.stream(PICTURES)
        assert [plain(next(stream)), plain(next(stream))] == EXPECTED[:2]
        with pytest.raises(ServiceUnavailable, match="BUSY"):
            next(stream)


def test_a_fault_of_the_pictures_source_is_the_callers(address: str) -> None:
    """It ends the stream as it is."""

    def pictures() -> Iterator[bytes]:
        yield b"x"
        raise KeyError("mine")

    with GrpcClient(address) as client, pytest.raises(KeyError, match="mine"):
        list(client.stream(pictures()))


def test_a_stream_may_be_left(address: str) -> None:
    """And the next one begins anew."""
    with GrpcClient(address) as client:
        for _ in range(3):
            assert plain(next(client.stream([b"x"] * 100))) == 1


def test_a_url_with_an_ipv6_address_is_understood() -> None:
    """Its brackets stay."""
    with contextmanager(serve)(StandInWorker(), "[::1]") as address, GrpcClient(f"http://{address}") as client:
        assert plain(next(client.stream([b"x"]))) == 1
