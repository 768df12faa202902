"""The line in front of the inference: one at a time, bounded, and left by those who do not wait any more."""

from __future__ import annotations

import asyncio
import threading
import time
from functools import partial

import pytest
from inference.mtcnn.steps import Abandoned, Steps
from inference.rpc.errors import Busy
from inference.rpc.queue import REMEMBERED, InferenceQueue


def test_one_piece_of_work_runs_at_a_time() -> None:
    """Five callers at once, and never two in the work."""
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


def test_who_finds_all_places_taken_is_refused_at_once() -> None:
    """One runs, two wait, the fourth is turned away before the first has ended."""

    async def main() -> None:
        queue, release = InferenceQueue(capacity=2, max_wait=60), threading.Event()
        others = [asyncio.create_task(queue.run(release.wait, Steps())) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Busy, match="2 requests are waiting"):
            await queue.run(release.wait, Steps())
        release.set()
        await asyncio.gather(*others)

    asyncio.run(main())


def test_what_waits_is_bounded_in_bytes() -> None:
    """A large one finds no room, a small one does; room comes back with who leaves the line."""

    async def main() -> None:
        queue, release = InferenceQueue(capacity=9, max_wait=60, memory=100), threading.Event()
        first = asyncio.create_task(queue.run(release.wait, Steps(), size=90))
        await asyncio.sleep(0)
        others = [asyncio.create_task(queue.run(release.wait, Steps(), size=size)) for size in (60, 40)]
        await asyncio.sleep(0)
        with pytest.raises(Busy, match="2 requests are waiting"):
            await queue.run(release.wait, Steps(), size=1)
        others.pop(0).cancel()
        await asyncio.sleep(0)
        with pytest.raises(Busy, match="1 requests are waiting"):
            await queue.run(release.wait, Steps(), size=61)
        others.append(asyncio.create_task(queue.run(release.wait, Steps(), size=60)))
        await asyncio.sleep(0)
        release.set()
        assert all(await asyncio.gather(first, *others))

    asyncio.run(main())


def test_who_would_wait_too_long_is_refused_at_once() -> None:
    """As long as the last ones took; a single one that took longer does not count."""

    async def wait_behind(queue: InferenceQueue, count: int) -> None:
        release = threading.Event()
        others = [asyncio.create_task(queue.run(release.wait, Steps())) for _ in range(count)]
        await asyncio.sleep(0)
        try:
            await asyncio.wait_for(queue.run(lambda: None, Steps()), 0.01)
        finally:
            release.set()
            await asyncio.gather(*others)

    async def main() -> None:
        queue = InferenceQueue(capacity=9, max_wait=0.3)
        for seconds in (0, 0.2, 0):
            await queue.run(partial(time.sleep, seconds), Steps())
        with pytest.raises(TimeoutError):  # it was let in to wait
            await wait_behind(queue, 4)
        for _ in range(REMEMBERED):
            await queue.run(partial(time.sleep, 0.2), Steps())
        with pytest.raises(Busy, match="2 requests are waiting"):
            await wait_behind(queue, 3)

    asyncio.run(main())


def test_who_waits_too_long_is_refused() -> None:
    """The wait is bounded in time, and the place is free again after it."""

    async def main() -> None:
        queue, release = InferenceQueue(capacity=1, max_wait=0.05), threading.Event()
        first = asyncio.create_task(queue.run(release.wait, Steps()))
        await asyncio.sleep(0)
        for _ in range(2):
            with pytest.raises(Busy, match=r"waited 0\.05 s"):
                await queue.run(release.wait, Steps())
        release.set()
        assert await first

    asyncio.run(main())


def test_a_wait_that_the_process_slept_through_does_not_count() -> None:
    """After SIGSTOP and SIGCONT nobody is turned away for time that was not spent in the line."""

    async def main() -> None:
        queue, release = InferenceQueue(capacity=1, max_wait=0.2), threading.Event()
        first = asyncio.create_task(queue.run(release.wait, Steps()))
        await asyncio.sleep(0)
        second = asyncio.create_task(queue.run(lambda: "computed", Steps()))
        await asyncio.sleep(0)
        time.sleep(1)  # noqa: ASYNC251 - this is the process that does not run
        release.set()
        await first
        assert await second == "computed"

    asyncio.run(main())


def test_a_caller_who_leaves_the_line_is_not_computed() -> None:
    """A cancelled wait gives its place back and its work never begins."""
    computed = []

    async def main() -> None:
        queue, release = InferenceQueue(capacity=1, max_wait=60), threading.Event()
        first = asyncio.create_task(queue.run(release.wait, Steps()))
        await asyncio.sleep(0)
        leaver = asyncio.create_task(queue.run(lambda: computed.append("left"), Steps()))
        await asyncio.sleep(0)
        leaver.cancel()
        await asyncio.wait([leaver])
        stayer = asyncio.create_task(queue.run(lambda: computed.append("stayed"), Steps()))
        await asyncio.sleep(0)
        release.set()
        await asyncio.gather(first, stayer)

    asyncio.run(main())
    assert computed == ["stayed"]


def test_a_running_work_ends_at_its_next_step_when_its_caller_leaves() -> None:
    """The queue is given back by the work's end, not by the caller's."""
    ended = []

    async def main() -> None:
        queue, started, go_on = InferenceQueue(capacity=1, max_wait=60), threading.Event(), threading.Event()
        steps = Steps()

        def work() -> None:
            started.set()
            go_on.wait()
            try:
                with steps("the next"):
                    ended.append("computed")
            except Abandoned:
                ended.append("abandoned")
                raise

        leaver = asyncio.create_task(queue.run(work, steps))
        await asyncio.to_thread(started.wait)
        leaver.cancel()
        await asyncio.wait([leaver])
        assert queue.running is not None  # the thread still works
        go_on.set()
        await queue.run(lambda: ended.append("next caller"), Steps())
        assert queue.running is None

    asyncio.run(main())
    assert ended == ["abandoned", "next caller"]


def test_no_step_begins_after_the_deadline() -> None:
    """The thread looks at the clock itself."""
    steps = Steps(deadline=time.monotonic() - 1)
    with pytest.raises(Abandoned), steps("pnet"):
        pytest.fail("it has begun")
    assert steps.milliseconds == {}
