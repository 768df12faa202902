"""The queue in front of the inference: one piece of work at a time, and a bounded wait."""

import asyncio
import threading
import time
from collections.abc import Coroutine, Iterator
from functools import partial
from typing import Any

import pytest
from inference.mtcnn.steps import Abandoned, Steps
from inference.rpc.errors import Busy
from inference.rpc.queue import REMEMBERED, InferenceQueue


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """What the work waits for; set at the end, so that a test that fails leaves no thread behind."""
    event = threading.Event()
    yield event
    event.set()


async def started(coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Start a task and let it run up to its first wait."""
    task = asyncio.create_task(coroutine)
    await asyncio.sleep(0)
    return task


def test_one_work_runs_at_a_time() -> None:
    """Of five callers at once, no two run together."""
    running, most = 0, 0

    def work() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.01)
        running -= 1

    async def main() -> None:
        queue = InferenceQueue(capacity=10, max_wait=10)
        await asyncio.gather(*(queue.run(work, Steps()) for _ in range(5)))

    asyncio.run(main())
    assert most == 1


def test_callers_run_in_the_order_of_their_arrival(release: threading.Event) -> None:
    """A stream among them gets no other turn."""
    order: list[int] = []

    async def main() -> None:
        queue = InferenceQueue(capacity=10, max_wait=60)
        callers = [await started(queue.run(release.wait, Steps()))]
        for number in range(5):
            work = partial(order.append, number)
            callers.append(await started(queue.run(work, Steps(), streaming=number % 2 == 1)))
        release.set()
        await asyncio.gather(*callers)

    asyncio.run(main())
    assert order == [0, 1, 2, 3, 4]


def test_a_caller_beyond_the_capacity_is_refused_at_once(release: threading.Event) -> None:
    """One runs, two wait, and the fourth is refused before the first has ended."""

    async def main() -> None:
        queue = InferenceQueue(capacity=2, max_wait=60)
        others = [await started(queue.run(release.wait, Steps())) for _ in range(3)]
        with pytest.raises(Busy, match="2 requests are waiting"):
            await queue.run(release.wait, Steps())
        release.set()
        await asyncio.gather(*others)

    asyncio.run(main())


def test_the_capacity_holds_while_the_turn_passes_on(release: threading.Event) -> None:
    """Callers that arrive after one work has ended and before the next one begins find the places that are free."""

    async def main() -> None:
        queue = InferenceQueue(capacity=2, max_wait=60)
        others = [await started(queue.run(release.wait, Steps())) for _ in range(3)]
        release.set()
        while queue.running is not None:  # noqa: ASYNC110 - looks after each turn of the event loop
            await asyncio.sleep(0)
        # The first has ended in this turn of the event loop. Run each arrival up to its first wait, before the loop
        # wakes the second.
        arrivals = [queue.run(release.wait, Steps()) for _ in range(5)]
        refused = 0
        for arrival in arrivals:
            try:
                arrival.send(None)
            except Busy:
                refused += 1
        assert (queue.waiting, refused) == (2, 4)
        for arrival in arrivals:
            arrival.close()
        assert all(await asyncio.gather(*others))

    asyncio.run(main())


def test_the_images_that_wait_are_bounded_in_bytes(release: threading.Event) -> None:
    """A large one is refused where a small one is let in; a caller that leaves frees its memory."""

    async def main() -> None:
        queue = InferenceQueue(capacity=9, max_wait=60, memory=100)
        first = await started(queue.run(release.wait, Steps(), size=90))
        others = [await started(queue.run(release.wait, Steps(), size=size)) for size in (60, 40)]
        with pytest.raises(Busy, match="2 requests are waiting"):
            await queue.run(release.wait, Steps(), size=1)
        others.pop(0).cancel()
        await asyncio.sleep(0)
        with pytest.raises(Busy, match="1 requests are waiting"):
            await queue.run(release.wait, Steps(), size=61)
        others.append(await started(queue.run(release.wait, Steps(), size=60)))
        release.set()
        assert all(await asyncio.gather(first, *others))

    asyncio.run(main())


def test_a_waiting_stream_counts_and_is_not_refused(release: threading.Event) -> None:
    """Its image takes a place and memory from the others; it waits longer than they may, whatever else waits."""

    async def main() -> None:
        queue = InferenceQueue(capacity=2, max_wait=0.05, memory=100)
        callers = [await started(queue.run(release.wait, Steps()))]
        callers.append(await started(queue.run(release.wait, Steps(), size=70, streaming=True)))
        assert (queue.waiting, queue.waiting_bytes) == (1, 70)
        with pytest.raises(Busy, match="1 requests are waiting"):
            await queue.run(release.wait, Steps(), size=31)
        callers.append(await started(queue.run(release.wait, Steps(), size=70, streaming=True)))
        with pytest.raises(Busy, match="2 requests are waiting"):
            await queue.run(release.wait, Steps())
        _, waiting = await asyncio.wait(callers, timeout=0.2)
        assert len(waiting) == 3
        release.set()
        assert all(await asyncio.gather(*callers))
        assert (queue.waiting, queue.waiting_bytes) == (0, 0)

    asyncio.run(main())


def test_a_caller_that_would_wait_too_long_is_refused_at_once() -> None:
    """The estimate follows the last runs; a single longer one does not count."""

    async def wait_behind(queue: InferenceQueue, count: int) -> None:
        release = threading.Event()
        others = [await started(queue.run(release.wait, Steps())) for _ in range(count)]
        try:
            await asyncio.wait_for(queue.run(lambda: None, Steps()), 0.01)
        finally:
            release.set()
            await asyncio.gather(*others)

    async def main() -> None:
        queue = InferenceQueue(capacity=9, max_wait=0.15)
        for seconds in (0, 0.1, 0):
            await queue.run(partial(time.sleep, seconds), Steps())
        with pytest.raises(TimeoutError):  # it was let in to wait
            await wait_behind(queue, 4)
        for _ in range(REMEMBERED):
            await queue.run(partial(time.sleep, 0.1), Steps())
        with pytest.raises(Busy, match="2 requests are waiting"):
            await wait_behind(queue, 3)

    asyncio.run(main())


def test_a_caller_that_waits_too_long_is_refused(release: threading.Event) -> None:
    """Its place is free again."""

    async def main() -> None:
        queue = InferenceQueue(capacity=1, max_wait=0.05)
        first = await started(queue.run(release.wait, Steps()))
        for _ in range(2):
            with pytest.raises(Busy, match=r"waited 0\.05 s"):
                await queue.run(release.wait, Steps())
        release.set()
        assert await first

    asyncio.run(main())


def test_the_time_that_the_process_was_stopped_does_not_count(release: threading.Event) -> None:
    """After SIGSTOP and SIGCONT no caller is refused for a wait in which nothing could run."""

    async def main() -> None:
        queue = InferenceQueue(capacity=1, max_wait=0.2)
        first = await started(queue.run(release.wait, Steps()))
        second = await started(queue.run(lambda: "computed", Steps()))
        time.sleep(1)  # noqa: ASYNC251 - stands for the process that does not run
        release.set()
        await first
        assert await second == "computed"

    asyncio.run(main())


def test_the_work_of_a_caller_that_leaves_the_queue_never_begins(release: threading.Event) -> None:
    """Its place is free again."""
    computed = []

    async def main() -> None:
        queue = InferenceQueue(capacity=1, max_wait=60)
        first = await started(queue.run(release.wait, Steps()))
        leaving = await started(queue.run(lambda: computed.append("left"), Steps()))
        leaving.cancel()
        await asyncio.wait([leaving])
        staying = await started(queue.run(lambda: computed.append("stayed"), Steps()))
        release.set()
        await asyncio.gather(first, staying)

    asyncio.run(main())
    assert computed == ["stayed"]


def test_a_caller_that_leaves_as_its_turn_comes_passes_the_turn_on(release: threading.Event) -> None:
    """The turn is not lost with it."""
    computed = []

    async def main() -> None:
        queue = InferenceQueue(capacity=2, max_wait=60)
        await started(queue.run(release.wait, Steps()))
        leaving = await started(queue.run(lambda: computed.append("left"), Steps()))
        staying = await started(queue.run(lambda: computed.append("stayed"), Steps()))
        release.set()
        while queue.running is not None:  # noqa: ASYNC110 - looks after each turn of the event loop
            await asyncio.sleep(0)
        leaving.cancel()  # it has the turn, and does not know yet
        await staying

    asyncio.run(main())
    assert computed == ["stayed"]


def test_a_running_work_ends_at_its_next_step_when_its_caller_leaves() -> None:
    """The turn passes on at the work's end, not when the caller leaves."""
    ended = []

    async def main() -> None:
        queue, begun, go_on = InferenceQueue(capacity=1, max_wait=60), threading.Event(), threading.Event()
        steps = Steps()

        def work() -> None:
            begun.set()
            go_on.wait()
            try:
                with steps("the next"):
                    ended.append("computed")
            except Abandoned:
                ended.append("abandoned")
                raise

        leaving = asyncio.create_task(queue.run(work, steps))
        await asyncio.to_thread(begun.wait)
        leaving.cancel()
        await asyncio.wait([leaving])
        assert queue.running is not None  # the thread still works
        go_on.set()
        await queue.run(lambda: ended.append("next caller"), Steps())
        assert queue.running is None

    asyncio.run(main())
    assert ended == ["abandoned", "next caller"]


def test_no_step_begins_after_the_deadline() -> None:
    """The thread checks the clock itself."""
    steps = Steps(deadline=time.monotonic() - 1)
    with pytest.raises(Abandoned), steps("pnet"):
        pytest.fail("it has begun")
    assert steps.milliseconds == {}
