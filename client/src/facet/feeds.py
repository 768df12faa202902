"""The pictures of a stream: taken from their source one after another, and kept until they are answered."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator

from protos import infer_pb2

# One picture is examined while the next is on its way. More would only age: a worker answers them one by one.
AHEAD = 2


class Feed:
    """Takes pictures in a thread of its own, so that a source which has none yet keeps nobody from an answer.

    The next picture is asked for when it can be sent, so a camera gives its newest. The thread ends with the source,
    or, after `close`, with the source's next picture.
    """

    def __init__(self, source: Iterator[infer_pb2.Image]) -> None:
        self._source = source
        self._unanswered: deque[infer_pb2.Image] = deque()
        self._outbox: queue.SimpleQueue[infer_pb2.Image | None] = queue.SimpleQueue()
        self._ended = False
        self._fault: BaseException | None = None
        self._changed = threading.Condition()
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self) -> None:
        try:
            while self._room() and (image := next(self._source, None)):
                with self._changed:
                    self._unanswered.append(image)
                    self._outbox.put(image)
                    self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the caller's
            self._fault = error
        self.close()

    def _room(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._ended or len(self._unanswered) < AHEAD)
            return not self._ended

    def outbox(self) -> Iterator[infer_pb2.Image]:
        """Give what a new stream has to send: what is unanswered, then the rest. The one before gets no more."""
        with self._changed:
            self._outbox.put(None)
            self._outbox = queue.SimpleQueue()
            for image in self._unanswered:
                self._outbox.put(image)
            if self._ended:
                self._outbox.put(None)
            return iter(self._outbox.get, None)

    def wait(self) -> bool:
        """Wait until an answer is due; False when there will be none any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._unanswered)
            return bool(self._unanswered)

    def answered(self) -> None:
        """Let the oldest picture go."""
        with self._changed:
            self._unanswered.popleft()
            self._changed.notify_all()

    def close(self) -> None:
        """Take no more, and let the stream end after what it has."""
        with self._changed:
            self._ended = True
            self._outbox.put(None)
            self._changed.notify_all()

    def raise_fault(self) -> None:
        """Raise what the source raised."""
        if self._fault:
            raise self._fault


class AsyncFeed:
    """Does what `Feed` does, in a task, for coroutines."""

    def __init__(self, source: AsyncIterator[infer_pb2.Image]) -> None:
        self._source = source
        self._unanswered: deque[infer_pb2.Image] = deque()
        self._outbox: asyncio.Queue[infer_pb2.Image | None] = asyncio.Queue()
        self._ended = False
        self._fault: BaseException | None = None
        self._changed = asyncio.Condition()
        self._task = asyncio.create_task(self._take())

    async def _take(self) -> None:
        try:
            while await self._room() and (image := await anext(self._source, None)):
                async with self._changed:
                    self._unanswered.append(image)
                    self._outbox.put_nowait(image)
                    self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the caller's
            self._fault = error
        async with self._changed:
            self._ended = True
            self._outbox.put_nowait(None)
            self._changed.notify_all()

    async def _room(self) -> bool:
        async with self._changed:
            return await self._changed.wait_for(lambda: len(self._unanswered) < AHEAD)

    def outbox(self) -> AsyncIterator[infer_pb2.Image]:
        """Give what a new stream has to send: what is unanswered, then the rest. The one before gets no more."""
        self._outbox.put_nowait(None)
        self._outbox = asyncio.Queue()
        for image in self._unanswered:
            self._outbox.put_nowait(image)
        if self._ended:
            self._outbox.put_nowait(None)
        return _until_none(self._outbox)

    async def wait(self) -> bool:
        """Wait until an answer is due; False when there will be none any more."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._ended or self._unanswered)
            return bool(self._unanswered)

    async def answered(self) -> None:
        """Let the oldest picture go."""
        async with self._changed:
            self._unanswered.popleft()
            self._changed.notify_all()

    async def close(self) -> None:
        """Take no more, and let the stream end after what it has."""
        self._task.cancel()
        await asyncio.wait([self._task])

    def raise_fault(self) -> None:
        """Raise what the source raised."""
        if self._fault:
            raise self._fault


async def _until_none(outbox: asyncio.Queue[infer_pb2.Image | None]) -> AsyncIterator[infer_pb2.Image]:
    while image := await outbox.get():
        yield image
