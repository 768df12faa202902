"""Many pictures through a detector, a few at a time, in their order, whatever becomes of each."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from facet.command.detector import Detector
from facet.command.inputs import Input
from facet.command.output import is_there, write_whole
from facet.command.results import Outcome, Summary
from facet.errors import FacetError, ImageRefused, InvalidOption, ServiceUnavailable, TimedOut
from facet.messages import DrawOptions, Options
from facet.results import Annotated

# Pictures that may be done before an older one, whose turn it is to be written, in multiples of the concurrency.
WINDOW = 4
# A service may be away for a while, and a picture may be one that no worker survives; but not so many in a row.
GIVE_UP_AFTER = 10
UNREADABLE = "UNREADABLE"  # the code of a file, not of the service

Item = TypeVar("Item")
Result = TypeVar("Result")


class ServiceGone(Exception):
    """The service cannot be reached: not at all, or no more."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A folder for drawn pictures, and how they are drawn."""

    folder: Path
    options: DrawOptions
    resume: bool = False
    """Whether what is in the folder already is kept."""

    def target(self, picture: Input) -> Path:
        """Say where a picture's drawn one goes: under its own name, in its own sub-folder."""
        endings = (".png",) if self.options.get("format") == "png" else (".jpg", ".jpeg")
        name = picture.mirror if picture.mirror.lower().endswith(endings) else picture.mirror + endings[0]
        return self.folder / name

    def is_done(self, picture: Input) -> bool:
        """Whether an earlier run has drawn it."""
        return self.resume and is_there(self.target(picture))


class Job:
    """What is to be done with each picture."""

    def __init__(self, options: Options, drawn: Drawn | None, *, want_faces: bool) -> None:
        self._options = options
        self._drawn = drawn
        self._want_faces = want_faces or not drawn

    async def run(
        self,
        detector: Detector,
        pictures: Iterable[Input],
        concurrency: int,
        write: Callable[[Outcome], None],
    ) -> Summary:
        """Do it to all, `concurrency` at a time, and `write` each outcome in the order of the pictures.

        When it is broken off, it still writes those that are examined. Raises ServiceGone, or InvalidOption when the
        service takes the options for no picture.
        """
        summary, streak = Summary(), FailureStreak()
        pool = OrderedPool(partial(self._examine, detector), concurrency)

        def take(outcome: Outcome) -> None:
            write(outcome)
            summary.add(outcome)

        async with detector:
            try:
                async for outcome in pool.results(pictures):
                    if isinstance(outcome.error, InvalidOption):
                        raise outcome.error
                    take(outcome)
                    streak.count(outcome.error)
            except (asyncio.CancelledError, ServiceGone):
                for outcome in await pool.stop():
                    if not outcome.error:  # it would be done again anyway
                        take(outcome)
                raise
            finally:
                await pool.stop()
        return summary

    async def _examine(self, detector: Detector, picture: Input) -> Outcome:
        try:
            data = await asyncio.to_thread(picture.read)
            drawn = None if self._drawn and self._drawn.is_done(picture) else self._drawn
            annotated = await _draw(detector, drawn, picture, data) if drawn else None
            if annotated and (annotated.detection or not self._want_faces):
                return Outcome(picture.path, annotated.detection, annotated.face_count)
            detection = await detector.detect(data, **self._options)
        except FacetError as error:
            return Outcome(picture.path, error=error)
        except OSError as error:
            return Outcome(picture.path, error=FacetError(UNREADABLE, error.strerror or str(error)))
        return Outcome(picture.path, detection, len(detection.faces))


async def _draw(detector: Detector, drawn: Drawn, picture: Input, data: bytes) -> Annotated:
    annotated = await detector.annotate(data, **drawn.options)
    target = drawn.target(picture)
    try:
        await asyncio.to_thread(write_whole, target, annotated.picture)
    except OSError as error:
        raise FacetError("UNWRITABLE", f"{target}: {error.strerror}") from error
    return annotated


class FailureStreak:
    """How long the service has had no answer, in pictures."""

    def __init__(self) -> None:
        self._pictures = 0
        self._somebody = False

    def count(self, error: FacetError | None) -> None:
        """Take what became of the next picture. Raises ServiceGone."""
        if error is None or isinstance(error, ImageRefused):
            self._pictures, self._somebody = 0, True
        elif isinstance(error, (ServiceUnavailable, TimedOut)) or error.code == "UNEXPECTED_ANSWER":
            self._pictures += 1
            self._somebody = self._somebody or error.code != "UNREACHABLE"
            if self._pictures == GIVE_UP_AFTER or not self._somebody:
                raise ServiceGone(error)


class OrderedPool(Generic[Item, Result]):
    """Works on many items, `concurrency` at a time, and gives the results in the order of the items."""

    def __init__(self, work: Callable[[Item], Awaitable[Result]], concurrency: int) -> None:
        self._work = work
        self._concurrency = concurrency
        self._places = asyncio.Semaphore(concurrency)
        self._tasks = deque[asyncio.Task[Result]]()

    async def results(self, items: Iterable[Item]) -> AsyncIterator[Result]:
        """Give the results. Items are taken as there is room: at most WINDOW x concurrency are done or under way."""
        for item in items:
            self._tasks.append(asyncio.create_task(self._one(item)))
            if len(self._tasks) == WINDOW * self._concurrency:
                yield await self._next()
        while self._tasks:
            yield await self._next()

    async def _one(self, item: Item) -> Result:
        async with self._places:
            return await self._work(item)

    async def _next(self) -> Result:
        result = await self._tasks[0]
        self._tasks.popleft()
        return result

    async def stop(self) -> list[Result]:
        """End what is under way, and give what is done but has not had its turn."""
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        return [result for result in ended if not isinstance(result, BaseException)]
