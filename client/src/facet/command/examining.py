"""Many pictures through a detector, a few at a time, in their order, whatever becomes of each."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from facet.command.inputs import Input
from facet.command.outcomes import Outcome, Summary
from facet.command.output import write_whole
from facet.command.service import Detector
from facet.errors import FacetError, InvalidOption, ServiceUnavailable
from facet.messages import DrawOptions, Options
from facet.results import Annotated

# Pictures that may be done before an older one, whose turn it is to be written, in multiples of the concurrency.
WINDOW = 4
# A service that has answered may be away for a while; when so many pictures one after another find none, it is gone.
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

    def target(self, picture: Input) -> Path:
        """Say where a picture's drawn one goes: under its own name, in its own sub-folder."""
        endings = (".png",) if self.options.get("format") == "png" else (".jpg", ".jpeg")
        name = picture.mirror if picture.mirror.lower().endswith(endings) else picture.mirror + endings[0]
        return self.folder / name


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

        Raises ServiceGone, or InvalidOption when the service takes the options for no picture.
        """
        summary, missed = Summary(), GIVE_UP_AFTER
        async with detector, aclosing(in_order(pictures, partial(self._examine, detector), concurrency)) as outcomes:
            async for outcome in outcomes:
                if isinstance(outcome.error, ServiceUnavailable):
                    missed += 1
                    if missed > GIVE_UP_AFTER:  # at once, if there never was an answer
                        raise ServiceGone(outcome.error)
                elif outcome.error is None or outcome.error.code != UNREADABLE:
                    missed = 0
                if isinstance(outcome.error, InvalidOption):
                    raise outcome.error
                write(outcome)
                summary.add(outcome)
        return summary

    async def _examine(self, detector: Detector, picture: Input) -> Outcome:
        try:
            data = await asyncio.to_thread(picture.read)
            annotated = await _draw(detector, self._drawn, picture, data) if self._drawn else None
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


async def in_order(
    items: Iterable[Item], work: Callable[[Item], Awaitable[Result]], concurrency: int
) -> AsyncGenerator[Result]:
    """Give the results in the order of the items, of which `concurrency` are worked on at a time.

    Items are taken as there is room: of the results, too, at most WINDOW x concurrency wait for their turn.
    """
    places, running = asyncio.Semaphore(concurrency), deque[asyncio.Task[Result]]()

    async def one(item: Item) -> Result:
        async with places:
            return await work(item)

    try:
        for item in items:
            running.append(asyncio.create_task(one(item)))
            if len(running) == WINDOW * concurrency:
                yield await running.popleft()
        while running:
            yield await running.popleft()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
