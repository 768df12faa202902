"""The package `facet` against the running stack."""

import asyncio
import signal
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from facet import (
    Annotated,
    AsyncClient,
    AsyncGrpcClient,
    Client,
    Detection,
    FacetError,
    GrpcClient,
    ImageRefused,
    ImageSource,
    InvalidOption,
    ServiceUnavailable,
    TimedOut,
)
from facet.local import LocalClient
from PIL import Image

from tests.conftest import IMAGES, encode
from tests.stack.conftest import FrontDoor
from tests.stack.running import RunningStack, ready, wait_for

ASTRONAUT = IMAGES / "astronaut.webp"

AnyClient = Client | GrpcClient | LocalClient


@pytest.fixture(scope="module")
def http(stack: FrontDoor) -> Iterator[Client]:
    """A client over HTTP."""
    with Client(stack.url) as client:
        yield client


@pytest.fixture(scope="module")
def grpc(stack: FrontDoor) -> Iterator[GrpcClient]:
    """A client over gRPC."""
    with GrpcClient(stack.edge) as client:
        yield client


@pytest.fixture(scope="module")
def local() -> LocalClient:
    """The detector in this process."""
    return LocalClient()


def test_equal_images_give_equal_faces_over_every_protocol(
    http: Client, grpc: GrpcClient, local: LocalClient, folder: Path
) -> None:
    """To the last bit: over HTTP, over gRPC and in this process. Errors are equal too."""

    def ask(client: AnyClient, path: Path) -> Detection | tuple[str, str]:
        try:
            return client.detect(path)
        except ImageRefused as error:
            return error.code, error.message

    counts: Counter[int] = Counter()
    for path in [ASTRONAUT, *sorted(folder.rglob("*.jpg"))[:20]]:
        found = ask(http, path)
        assert found == ask(grpc, path) == ask(local, path), path
        counts[len(found.faces) if isinstance(found, Detection) else -1] += 1
    assert all(counts[number] for number in (-1, 0, 1, 2)), counts


def test_the_asynchronous_clients_return_the_same(stack: FrontDoor, http: Client) -> None:
    """Also with many calls at a time."""

    async def ask() -> list[Detection]:
        async with AsyncClient(stack.url) as one, AsyncGrpcClient(stack.edge) as other:
            assert (await one.health()).ready
            assert (await other.health()).ready
            return await asyncio.gather(*(client.detect(ASTRONAUT) for client in (one, other) for _ in range(4)))

    assert set(asyncio.run(ask())) == {http.detect(ASTRONAUT)}


def test_options_have_the_same_meaning_in_every_client(http: Client, grpc: GrpcClient, local: LocalClient) -> None:
    """So do images given as bytes, as a path or as an open file."""
    data = ASTRONAUT.read_bytes()
    for client in (http, grpc, local):
        assert client.health().ready
        assert client.detect(data, min_confidence=1.0).faces == ()
        assert len(client.detect(str(ASTRONAUT), max_faces=1, image_id="seven").faces) == 1
        with ASTRONAUT.open("rb") as file:
            assert client.detect(file, min_face_size=400).faces == ()
        with pytest.raises(InvalidOption, match="at least 12"):
            client.detect(data, min_face_size=3)
        with pytest.raises(FileNotFoundError):
            client.detect("/nowhere.jpg")


def test_drawn_images_are_the_same_in_every_client(http: Client, grpc: GrpcClient, local: LocalClient) -> None:
    """Also an image above gRPC's default limit of 4 MiB."""
    noise = encode(Image.merge("RGB", [Image.effect_noise((1400, 1400), 100) for _ in "RGB"]), "JPEG")
    for image, count in ((ASTRONAUT, 1), (noise, 0)):
        drawn = [client.annotate(image, format="png", min_face_size=60) for client in (http, grpc, local)]
        assert drawn[0] == drawn[1] == drawn[2]
        assert drawn[0].face_count == count
        assert drawn[0].picture.startswith(b"\x89PNG")
        assert drawn[1].detection == http.detect(image, min_face_size=60)
    assert len(drawn[0].picture) > 4 * 1024**2
    hidden = http.annotate(ASTRONAUT, style="blur")
    assert (hidden.face_count, http.detect(hidden.picture).faces) == (1, ())


def test_the_service_is_told_the_timeout(stack: FrontDoor, slow_file: bytes) -> None:
    """So the service stops too."""
    with Client(stack.url, timeout=0.3) as one, GrpcClient(stack.edge, timeout=0.3) as other:
        for client in (one, other):
            with pytest.raises(TimedOut):
                client.detect(slow_file)


def test_a_stream_has_one_answer_per_image_in_order(
    stack: FrontDoor, grpc: GrpcClient, http: Client, face_file: bytes
) -> None:
    """A bad image has an error, and the next one its answer; in both clients, drawn and not."""
    images: list[ImageSource] = [face_file, b"not an image", ASTRONAUT, face_file]
    expected = [http.detect(face_file), "INVALID_IMAGE", http.detect(ASTRONAUT), http.detect(face_file)]

    def plain(entries: Iterable[Detection | Annotated | FacetError]) -> list[Any]:
        return [
            entry.code if isinstance(entry, FacetError) else entry.detection if isinstance(entry, Annotated) else entry
            for entry in entries
        ]

    async def ask() -> list[Any]:
        async with AsyncGrpcClient(stack.edge) as client:
            return [entry async for entry in client.stream(images)]

    assert plain(grpc.stream(images)) == expected
    assert plain(grpc.annotate_stream(images)) == expected
    assert plain(asyncio.run(ask())) == expected
    assert list(grpc.stream([])) == []


@pytest.mark.parametrize("size", [12 * 1024**2, 20 * 1024**2])
def test_an_image_above_the_limit_is_refused_and_a_stream_goes_on(
    stack: FrontDoor, grpc: GrpcClient, face_file: bytes, size: int
) -> None:
    """It is not retried. The worker refuses one of the sizes, gRPC itself the other."""
    large = bytes(size)
    with GrpcClient(stack.edge, retries=0) as client, pytest.raises(ImageRefused, match="BODY_TOO_LARGE"):
        client.detect(large)
    answers = list(grpc.stream([face_file, large, face_file]))
    assert [answer.code if isinstance(answer, FacetError) else len(answer.faces) for answer in answers] == [
        *(1, "BODY_TOO_LARGE", 1)
    ]


def test_a_stream_outlives_its_workers(processes: RunningStack, face_file: bytes) -> None:
    """Workers that are replaced and workers that are killed: each image has one answer, in order."""
    wait_for(lambda: processes.serving() == 4, "4 workers serve")

    def images() -> Iterator[bytes]:
        for number in range(300):
            if number == 20:
                processes.supervisors()[0].send_signal(signal.SIGHUP)
            if number == 150:
                for worker in processes.workers():
                    worker.kill()
            yield face_file

    with GrpcClient(processes.edge, timeout=60, retries=100) as client:
        entries = list(client.stream(images()))
    assert len(entries) == 300
    assert {len(entry.faces) if isinstance(entry, Detection) else str(entry) for entry in entries} == {1}
    wait_for(lambda: processes.serving() == 4, "4 workers serve")


def test_unreachable_differs_from_not_ready(processes: RunningStack, face_file: bytes) -> None:
    """Envoy answers without a worker; a closed port does not."""
    with GrpcClient("127.0.0.1:1", retries=0) as client, pytest.raises(ServiceUnavailable, match="UNREACHABLE"):
        client.detect(face_file)
    supervisor = processes.supervisors()[0]
    supervisor.send_signal(signal.SIGSTOP)  # it will replace no worker
    try:
        for worker in processes.workers():
            worker.kill()
        with GrpcClient(processes.edge, retries=0) as one, Client(processes.url, retries=0) as other:
            for asked in (one, other):
                with pytest.raises(ServiceUnavailable, match="NOT_READY"):
                    asked.detect(face_file)
                assert not asked.health().ready
                assert asked.health().alive
    finally:
        supervisor.send_signal(signal.SIGCONT)
    wait_for(lambda: processes.serving() == 4, "4 workers serve")
    wait_for(lambda: ready(processes.url), "Envoy has found them")
