"""The images of a stream that are in flight: sent, or about to be, and not yet answered."""

import asyncio
import queue
from collections import deque
from collections.abc import AsyncGenerator, Iterator

from protos.infer_pb2 import Image

from facet.errors import FacetError

# The worker examines one image while the next is on its way. It answers in order, so more in flight would only wait.
WINDOW_SIZE = 2


class Window:
    """Takes images from their source as there is room, and keeps them until they are answered.

    A source without an image does not delay answers. The next image is taken when it can be sent, so a camera gives its
    latest.
    """

    def __init__(self, source: AsyncGenerator[Image]) -> None:
        self._source = source
        self._in_flight: deque[Image | FacetError] = deque()
        self._outbox: queue.SimpleQueue[Image | None] = queue.SimpleQueue()
        self._source_ended = False
        self._source_error: BaseException | None = None
        self._changed = asyncio.Condition()
        self._task = asyncio.create_task(self._take())

    async def _take(self) -> None:
        try:
            while image := await anext(self._source, None):
                async with self._changed:
                    self._in_flight.append(image)
                    self._outbox.put(image)
                    self._changed.notify_all()
                    await self._changed.wait_for(lambda: len(self._in_flight) < WINDOW_SIZE)
        except BaseException as error:  # noqa: BLE001 - raised by `raise_source_error`
            self._source_error = error
        async with self._changed:
            self._source_ended = True
            self._outbox.put(None)
            self._changed.notify_all()

    def outbox(self) -> Iterator[Image]:
        """Return what a new stream sends: the images in flight, then those to come. The previous outbox ends.

        A thread of gRPC takes the images.
        """
        self._outbox.put(None)
        self._outbox = queue.SimpleQueue()
        for image in self._in_flight:
            if isinstance(image, Image):
                self._outbox.put(image)
        if self._source_ended:
            self._outbox.put(None)
        return iter(self._outbox.get, None)

    async def oldest(self) -> Image | FacetError | None:
        """Wait for the oldest image in flight. Returns its error if it was refused, None when there are no more."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._in_flight or self._source_ended)
            return self._in_flight[0] if self._in_flight else None

    def refuse_largest(self, error: FacetError) -> None:
        """Give the largest image its error: if any image in flight is above a limit of size, the largest is."""
        sizes = [image.ByteSize() if isinstance(image, Image) else -1 for image in self._in_flight]
        self._in_flight[sizes.index(max(sizes))] = error

    async def pop(self) -> None:
        """Drop the oldest image: it is answered."""
        async with self._changed:
            self._in_flight.popleft()
            self._changed.notify_all()

    async def close(self) -> None:
        """Take no more images."""
        self._task.cancel()
        await asyncio.wait([self._task])
        await self._source.aclose()

    def raise_source_error(self) -> None:
        if self._source_error:
            raise self._source_error
