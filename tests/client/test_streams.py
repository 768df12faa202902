"""Streams: each image has one answer, and a new stream continues where one broke off."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import repeat
from typing import Any

import pytest
from facet import (
    Annotated,
    AsyncGrpcClient,
    Detection,
    FacetError,
    GrpcClient,
    ImageRefused,
    ServiceUnavailable,
)

from tests.client.stand_in_worker import working

PASSING = {3: "busy", 4: "ended", 5: "lost", 6: "killed", 7: "replaced"}
IMAGES = [b"x" * length for length in range(1, 10)]
LIMIT = 1000  # bytes
LARGE = b"x" * 2000

Streamed = Callable[..., list[Any]]


def plain(entry: Detection | Annotated | FacetError) -> int | str:
    detection = entry.detection if isinstance(entry, Annotated) else entry
    return detection.width if isinstance(detection, Detection) else entry.code  # type: ignore[union-attr]


def sync_stream(address: str, images: Iterable[bytes], **settings: Any) -> list[Any]:
    with GrpcClient(address, **settings) as client:
        return [plain(entry) for entry in client.stream(images)]


def async_stream(address: str, images: Iterable[bytes], **settings: Any) -> list[Any]:
    async def source() -> AsyncIterator[bytes]:
        iterator = iter(images)
        while image := await asyncio.to_thread(next, iterator, None):
            yield image

    async def ask() -> list[Any]:
        async with AsyncGrpcClient(address, **settings) as client:
            return [plain(entry) async for entry in client.stream(source())]

    return asyncio.run(ask())


both = pytest.mark.parametrize("stream", [sync_stream, async_stream])


@both
def test_each_image_has_one_answer_in_order(stream: Streamed) -> None:
    """Images sent to a busy worker, a lost one, or one that is being replaced are sent again."""
    with working({2: "bad", **PASSING}) as worker:
        assert stream(worker.address, IMAGES) == [1, "INVALID_IMAGE", *range(3, 10)]


@both
@pytest.mark.parametrize("trouble", ["lost", "killed"])
def test_an_image_that_kills_its_worker_is_sent_once_more(stream: Streamed, trouble: str) -> None:
    """It has an error, and the images after it have answers."""
    with working({5: trouble}, always=True) as worker:
        assert stream(worker.address, IMAGES) == [*range(1, 5), "BROKE_OFF", *range(6, 10)]
    assert worker.seen[5] == 2


@both
def test_an_image_without_an_answer_times_out(stream: Streamed) -> None:
    """Its worker hangs. The images after it have answers."""
    with working({5: "hung"}, always=True) as worker:
        assert stream(worker.address, IMAGES, timeout=0.1) == [*range(1, 5), "DEADLINE_EXCEEDED", *range(6, 10)]


@both
@pytest.mark.parametrize("large", [{0}, {3}, {4}, {3, 4}, {8}, set(range(9))])
def test_an_image_above_the_message_limit_has_an_error_and_the_stream_goes_on(
    stream: Streamed, large: set[int]
) -> None:
    """The image is not sent again, and the one in flight beside it gets its answer."""
    images = [LARGE if number in large else image for number, image in enumerate(IMAGES)]
    with working({}, limit=LIMIT) as worker:
        expected = ["BODY_TOO_LARGE" if image is LARGE else len(image) for image in images]
        assert stream(worker.address, images) == expected
    assert len(LARGE) not in worker.seen


def test_a_single_image_above_the_message_limit_is_refused_at_the_first_try() -> None:
    """The error is that of an image, not that of a busy service."""

    async def ask() -> None:
        async with AsyncGrpcClient(worker.address, retries=0) as client:
            await client.detect(LARGE)

    with working({}, limit=LIMIT) as worker, GrpcClient(worker.address, retries=0) as client:
        with pytest.raises(ImageRefused, match="BODY_TOO_LARGE"):
            client.detect(LARGE)
        with pytest.raises(ImageRefused, match="BODY_TOO_LARGE"):
            asyncio.run(ask())
        assert client.detect(b"x").width == 1


def test_a_slow_source_does_not_block_the_event_loop() -> None:
    """Each image is taken in a thread, so other coroutines run meanwhile."""
    ran = threading.Event()

    def images() -> Iterator[bytes]:
        yield b"x"
        assert ran.wait(60), "the event loop is blocked"
        yield b"xx"

    async def ask() -> list[int | str]:
        async with AsyncGrpcClient(worker.address) as client:
            stream = client.stream(images())
            found = [plain(await anext(stream))]
            ran.set()
            return found + [plain(entry) async for entry in stream]

    with working({}) as worker:
        assert asyncio.run(ask()) == [1, 2]


def test_a_single_image_that_kills_its_worker_is_sent_once_more() -> None:
    """As in a stream."""

    async def ask() -> None:
        async with AsyncGrpcClient(worker.address) as client:
            await client.detect(b"x" * 5)

    with working({5: "lost"}, always=True) as worker, GrpcClient(worker.address) as client:
        with pytest.raises(ServiceUnavailable, match="BROKE_OFF"):
            client.detect(b"x" * 5)
        with pytest.raises(ServiceUnavailable, match="BROKE_OFF"):
            asyncio.run(ask())
    assert worker.seen[5] == 4


def test_an_older_worker_that_cannot_draw_is_retried() -> None:
    """During a rolling update, in a stream and without one."""

    async def ask() -> int | str:
        async with AsyncGrpcClient(worker.address) as client:
            return plain(await client.annotate(b"xxx"))

    with working({1: "older", 2: "older", 3: "older"}) as worker, GrpcClient(worker.address) as client:
        assert plain(client.annotate(b"x")) == 1
        assert [plain(entry) for entry in client.annotate_stream([b"xx", b"x"])] == [2, 1]
        assert asyncio.run(ask()) == 3


@both
def test_a_service_that_does_not_recover_ends_the_stream(stream: Streamed) -> None:
    """After the first try and all retries."""
    with working({2: "busy"}, always=True) as worker, pytest.raises(ServiceUnavailable, match="BUSY"):
        stream(worker.address, IMAGES, retries=2)
    assert worker.seen[2] == 3


@both
def test_the_timeout_does_not_run_while_the_source_has_no_image(stream: Streamed) -> None:
    """A camera may be slow: the timeout of an image starts when the image is there."""

    def images() -> Iterator[bytes]:
        yield b"x"
        time.sleep(1.2)
        yield b"xxx"

    with working({3: "replaced"}) as worker:
        assert stream(worker.address, images(), timeout=1) == [1, 3]


def test_an_answer_does_not_wait_for_the_next_image() -> None:
    """A source may send the next image only when the last one is answered."""
    answered = threading.Semaphore()

    def images() -> Iterator[bytes]:
        for image in IMAGES:
            assert answered.acquire(timeout=60)
            yield image

    with working({}) as worker, GrpcClient(worker.address) as client:
        for count, entry in enumerate(client.stream(images()), 1):
            assert plain(entry) == count
            answered.release()
    assert count == len(IMAGES)


def test_an_answer_does_not_wait_for_an_async_source() -> None:
    """The same for an asynchronous source."""

    async def ask() -> list[int | str]:
        answered, found = asyncio.Semaphore(), []

        async def images() -> AsyncIterator[bytes]:
            for image in IMAGES:
                await asyncio.wait_for(answered.acquire(), 60)
                yield image

        async with AsyncGrpcClient(worker.address) as client:
            async for entry in client.stream(images()):
                found.append(plain(entry))
                answered.release()
        return found

    with working({}) as worker:
        assert asyncio.run(ask()) == list(range(1, 10))


def test_an_error_of_the_source_comes_after_the_answers() -> None:
    """It ends the stream, unchanged."""

    def images() -> Iterator[bytes]:
        yield from IMAGES[:2]
        raise KeyError("mine")

    async def ask() -> None:
        async with AsyncGrpcClient(worker.address) as client:
            stream = client.stream(images())
            assert [plain(await anext(stream)), plain(await anext(stream))] == [1, 2]
            with pytest.raises(KeyError, match="mine"):
                await anext(stream)

    with working({}) as worker, GrpcClient(worker.address) as client:
        stream = client.stream(images())
        assert [plain(next(stream)), plain(next(stream))] == [1, 2]
        with pytest.raises(KeyError, match="mine"):
            next(stream)
        asyncio.run(ask())


def test_a_stream_may_be_abandoned() -> None:
    """While images wait for an answer. The next stream starts afresh, and only the background loop stays."""
    with working({}) as worker:
        before = set(threading.enumerate())
        with GrpcClient(worker.address) as client:
            for _ in range(3):
                ahead = threading.Event()
                stream = client.stream(endless(ahead))
                assert plain(next(stream)) == 1
                assert ahead.wait(60)
                del stream
        for thread in set(threading.enumerate()) - before:
            if not thread.name.startswith("worker"):
                thread.join(60)
                assert not thread.is_alive(), thread


def endless(ahead: threading.Event) -> Iterator[bytes]:
    """Yield images forever; set the event when the third is taken, after the first was answered."""
    yield from [b"x"] * 2
    ahead.set()
    yield from repeat(b"x")


FORKS = """
import os, sys
from facet import GrpcClient
list(GrpcClient(sys.argv[1]).stream([b"x"]))
if child := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
with GrpcClient(sys.argv[1]) as client:
    os._exit([answer.width for answer in client.stream([b"xxx"])][0])
"""


def test_a_forked_process_may_make_its_own_client() -> None:
    """It does not have its parent's background thread."""
    with working({}) as worker:
        done = subprocess.run([sys.executable, "-c", FORKS, worker.address], check=False, timeout=60)
    assert done.returncode == 3


def test_an_async_stream_may_be_abandoned() -> None:
    """No task remains."""

    async def ask() -> None:
        async with AsyncGrpcClient(worker.address) as client:
            for _ in range(3):
                async for entry in client.stream([b"x"] * 100):
                    assert plain(entry) == 1
                    break
            while len(asyncio.all_tasks()) > 1:  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.01)

    with working({}) as worker:
        asyncio.run(ask())


def test_a_url_may_have_an_ipv6_address() -> None:
    """Its brackets are kept."""
    with working({}, host="[::1]") as worker:
        assert sync_stream(f"http://{worker.address}", [b"x"]) == [1]
