"""Examines many images, a few at a time, and gives the results in order."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from facet.command.detector import Detector
from facet.command.inputs import Input
from facet.command.output import is_complete, write_atomically
from facet.command.results import Result, Summary
from facet.errors import FacetError, ImageRefused, InvalidOption, ServiceUnavailable, TimedOut
from facet.messages import DrawOptions, Options
from facet.results import Annotated

# How many results may wait for an earlier one, in multiples of the concurrency.
WINDOW = 4
# A service may be away for a while, and an image may crash every worker, but not this many images in a row.
MAX_FAILURES_IN_A_ROW = 10

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class ServiceGone(Exception):
    """The service cannot be reached, or no longer answers."""


@dataclass(frozen=True, slots=True)
class DrawnFolder:
    """The folder of the drawn images, and how they are drawn."""

    folder: Path
    options: DrawOptions
    resume: bool = False
    """Whether to keep the images that the folder already has."""

    def target(self, image: Input) -> Path:
        """Return the path of a drawn image: the name of the image, in the same subfolder."""
        endings = (".png",) if self.options.get("format") == "png" else (".jpg", ".jpeg")
        path = image.relative_path
        return self.folder / (path if path.lower().endswith(endings) else path + endings[0])

    def is_done(self, image: Input) -> bool:
        return self.resume and is_complete(self.target(image))


@dataclass(frozen=True, slots=True)
class Batch:
    """What to do with each image."""

    options: Options
    drawn: DrawnFolder | None
    want_faces: bool
    """Whether drawing is not enough: over HTTP the faces need another request."""

    async def run(
        self, detector: Detector, images: Iterable[Input], concurrency: int, write: Callable[[Result], None]
    ) -> Summary:
        """Process all images, `concurrency` at a time, and `write` the results in the order of the images.

        When it is cancelled, it still writes the results that it has. Raises ServiceGone, or InvalidOption when an
        option is invalid for every image.
        """
        summary, streak = Summary(), FailureStreak()
        pool = OrderedPool(partial(self._process, detector), concurrency)

        def take(result: Result) -> None:
            write(result)
            summary.add(result)

        async with detector:
            try:
                async for result in pool.results(images):
                    if isinstance(result.error, InvalidOption):
                        raise result.error
                    take(result)
                    streak.count(result.error)
            except (asyncio.CancelledError, ServiceGone):
                for result in await pool.stop():
                    if not result.error:  # --resume examines failed images again
                        take(result)
                raise
            finally:
                await pool.stop()
        return summary

    async def _process(self, detector: Detector, image: Input) -> Result:
        try:
            data = await asyncio.to_thread(image.read)
            drawn = None if self.drawn and self.drawn.is_done(image) else self.drawn
            annotated = await _draw(detector, drawn, image, data) if drawn else None
            if annotated and (annotated.detection or not self.want_faces):
                return Result(image.path, annotated.detection, annotated.face_count)
            detection = await detector.detect(data, **self.options)
        except FacetError as error:
            return Result(image.path, error=error)
        except OSError as error:
            return Result(image.path, error=FacetError("UNREADABLE", error.strerror or str(error)))
        return Result(image.path, detection, len(detection.faces))


async def _draw(detector: Detector, drawn: DrawnFolder, image: Input, data: bytes) -> Annotated:
    annotated = await detector.annotate(data, **drawn.options)
    target = drawn.target(image)
    try:
        await asyncio.to_thread(write_atomically, target, annotated.picture)
    except OSError as error:
        raise FacetError("UNWRITABLE", f"{target}: {error.strerror}") from error
    return annotated


class FailureStreak:
    """Counts the images in a row without an answer from the service."""

    def __init__(self) -> None:
        self._length = 0
        self._reached = False

    def count(self, error: FacetError | None) -> None:
        """Count the next image. Raises ServiceGone."""
        if error is None or isinstance(error, ImageRefused):
            self._length, self._reached = 0, True
        elif isinstance(error, (ServiceUnavailable, TimedOut)) or error.code == "UNEXPECTED_ANSWER":
            self._length += 1
            self._reached = self._reached or error.code != "UNREACHABLE"
            if self._length == MAX_FAILURES_IN_A_ROW or not self._reached:
                raise ServiceGone(error)


class OrderedPool(Generic[Item, Outcome]):
    """Works on many items, `concurrency` at a time, and returns the results in the order of the items."""

    def __init__(self, work: Callable[[Item], Awaitable[Outcome]], concurrency: int) -> None:
        self._work = work
        self._concurrency = concurrency
        self._slots = asyncio.Semaphore(concurrency)
        self._tasks = deque[asyncio.Task[Outcome]]()

    async def results(self, items: Iterable[Item]) -> AsyncIterator[Outcome]:
        """Yield the results. At most WINDOW x concurrency items are in progress or wait for an earlier one."""
        for item in items:
            self._tasks.append(asyncio.create_task(self._one(item)))
            if len(self._tasks) == WINDOW * self._concurrency:
                yield await self._next()
        while self._tasks:
            yield await self._next()

    async def _one(self, item: Item) -> Outcome:
        async with self._slots:
            return await self._work(item)

    async def _next(self) -> Outcome:
        result = await self._tasks[0]
        self._tasks.popleft()
        return result

    async def stop(self) -> list[Outcome]:
        """Cancel what is in progress, and return the results that were not yielded."""
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        return [result for result in ended if not isinstance(result, BaseException)]
