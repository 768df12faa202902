"""Bridges between threads and event loops: a synchronous stream runs the code of the asynchronous one."""

import asyncio
import os
import queue
import threading
from collections.abc import AsyncGenerator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import aclosing
from typing import Any, TypeVar

Item = TypeVar("Item")
END = object()
THREAD = "facet-client"

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def _background_loop() -> asyncio.AbstractEventLoop:
    """Return the event loop of all synchronous streams of this process; start its thread if there is none."""
    global _loop  # noqa: PLW0603 - one for the process
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name=THREAD, daemon=True).start()
        return _loop


def _forget_loop() -> None:
    global _lock, _loop
    _lock, _loop = threading.Lock(), None


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forget_loop)  # a forked process has none of its parent's threads


def iterate(stream: AsyncGenerator[Item]) -> Iterator[Item]:
    """Iterate over an asynchronous generator that runs on the background loop, one item at a time.

    Leaving the iterator closes the generator.
    """
    loop, wanted = _background_loop(), asyncio.Semaphore(0)
    items: queue.SimpleQueue[Any] = queue.SimpleQueue()
    failure: BaseException | None = None

    async def pump() -> None:
        nonlocal failure
        try:
            async with aclosing(stream):
                item: Any = None
                while item is not END:
                    await wanted.acquire()
                    items.put(item := await anext(stream, END))
        except BaseException as error:  # noqa: BLE001 - raised below; here SystemExit would end the loop for all
            failure = error
            items.put(END)

    pumping = asyncio.run_coroutine_threadsafe(pump(), loop)
    try:
        while True:
            loop.call_soon_threadsafe(wanted.release)
            if (item := items.get()) is END:
                break
            yield item
    finally:
        pumping.cancel()
    if failure:
        raise failure


async def iterate_in_thread(items: Iterable[Item]) -> AsyncGenerator[Item]:
    """Iterate in a new thread over an iterable that may block, such as a camera. Items are taken on demand.

    The thread is a daemon, so an item that never comes does not keep the process alive.
    """
    wanted: queue.SimpleQueue[Future[Any] | None] = queue.SimpleQueue()

    def take() -> None:
        iterator = iter(items)
        for future in iter(wanted.get, None):
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(next(iterator, END))
                except BaseException as error:  # noqa: BLE001 - raised where the item is awaited
                    future.set_exception(error)

    threading.Thread(target=take, name="facet-images", daemon=True).start()
    try:
        while True:
            future: Future[Any] = Future()
            wanted.put(future)
            if (item := await asyncio.wrap_future(future)) is END:
                return
            yield item
    finally:
        wanted.put(None)


async def outcome(call: Any) -> Any:
    """Wait for a gRPC call and return its result, or raise its error. Cancelling the wait cancels the call."""
    ended: Future[None] = Future()
    ended.set_running_or_notify_cancel()
    call.add_done_callback(lambda _: ended.set_result(None))
    try:
        await asyncio.wrap_future(ended)
    finally:
        call.cancel()
    return call.result()
