"""Many pictures in their order, whatever becomes of each, and when there is no use in going on."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Self, Unpack

import pytest
from facet import Annotated, Detection, FacetError
from facet.command.batch import GIVE_UP_AFTER, Drawn, Job, ServiceGone
from facet.command.inputs import Input
from facet.command.results import Outcome
from facet.errors import error_for
from facet.messages import DetectOptions, DrawOptions, ImageSource

FOUND = Detection((), 10, 10, 1)
MANY = 1000


class StandInDetector:
    """Knows the pictures by their bytes, and what becomes of each: a code, "hangs", or no faces."""

    def __init__(self, becomes: Mapping[int, str]) -> None:
        self._becomes = becomes
        self.hanging = asyncio.Semaphore(0)
        self.drawn: list[int] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def detect(self, image: ImageSource, **_: Unpack[DetectOptions]) -> Detection:
        assert isinstance(image, bytes)
        code = self._becomes.get(int(image), "")
        if code == "hangs":
            self.hanging.release()
            await asyncio.Event().wait()
        if code:
            raise error_for(code, "as it was told")
        return FOUND

    async def annotate(self, image: ImageSource, **_: Unpack[DrawOptions]) -> Annotated:
        assert isinstance(image, bytes)
        self.drawn.append(int(image))
        return Annotated(b"drawn", 0, FOUND)


def pictures(count: int = MANY) -> list[Input]:
    return [Input(str(number), str(number), str(number).encode()) for number in range(count)]


def run(becomes: Mapping[int, str]) -> tuple[list[str], bool]:
    """Examine many pictures; give what became of those that have a record, and whether the service was given up."""
    outcomes: list[Outcome] = []
    try:
        asyncio.run(Job({}, None, want_faces=True).run(StandInDetector(becomes), pictures(), 4, outcomes.append))
        gone = False
    except ServiceGone:
        gone = True
    assert [outcome.name for outcome in outcomes] == [str(number) for number in range(len(outcomes))]
    return [outcome.error.code if outcome.error else "" for outcome in outcomes], gone


@pytest.mark.parametrize("code", ["BUSY", "NOT_READY", "DEADLINE_EXCEEDED", "UNEXPECTED_ANSWER"])
def test_a_service_without_an_answer_is_given_up_after_some_pictures(code: str) -> None:
    """Not after the first, be it one that no worker survives; each of them has its record."""
    assert run({0: code}) == ([code] + (MANY - 1) * [""], False)
    assert run(dict.fromkeys(range(GIVE_UP_AFTER - 1), code))[1] is False
    assert run(dict.fromkeys(range(MANY), code)) == (GIVE_UP_AFTER * [code], True)


def test_a_service_that_nobody_has_seen_is_given_up_at_once() -> None:
    """One that has answered may come back."""
    everything = dict.fromkeys(range(MANY), "UNREACHABLE")
    assert run(everything) == (["UNREACHABLE"], True)
    assert run(everything | {0: "BUSY"}) == (["BUSY"] + (GIVE_UP_AFTER - 1) * ["UNREACHABLE"], True)
    assert run(everything | {0: ""}) == (["", *GIVE_UP_AFTER * ["UNREACHABLE"]], True)


def test_only_an_answer_about_a_picture_shows_that_the_service_is_there() -> None:
    """That it refused one is such an answer; a file that cannot be read says nothing of the service."""
    silent = dict.fromkeys(range(MANY), "BUSY")
    assert len(run(silent | {5: "INVALID_IMAGE"})[0]) == 6 + GIVE_UP_AFTER
    assert len(run(silent | {5: "UNREADABLE"})[0]) == 1 + GIVE_UP_AFTER


def test_what_is_done_is_kept_when_it_is_broken_off() -> None:
    """Also of those whose turn had not come; what failed is done again by --resume."""
    outcomes: list[Outcome] = []

    async def break_off() -> None:
        detector = StandInDetector({0: "hangs", 1: "INVALID_IMAGE", 4: "hangs"})
        running = asyncio.create_task(Job({}, None, want_faces=True).run(detector, pictures(5), 2, outcomes.append))
        await detector.hanging.acquire()
        await detector.hanging.acquire()
        running.cancel()
        await running

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(break_off())
    assert [outcome.name for outcome in outcomes] == ["2", "3"]


def test_a_picture_that_an_earlier_run_has_drawn_is_not_drawn_again(tmp_path: Path) -> None:
    """When its record alone is missing; one whose file is empty is drawn, since that is what a crash may leave."""
    (tmp_path / "0.jpg").write_bytes(b"old")
    (tmp_path / "1.jpg").touch()
    outcomes: list[Outcome] = []
    detector, drawn = StandInDetector({}), Drawn(tmp_path, {}, resume=True)
    asyncio.run(Job({}, drawn, want_faces=True).run(detector, pictures(3), 1, outcomes.append))
    assert [outcome.detection for outcome in outcomes] == [FOUND] * 3
    assert detector.drawn == [1, 2]
    assert [(tmp_path / f"{number}.jpg").read_bytes() for number in range(3)] == [b"old", b"drawn", b"drawn"]


def test_a_drawn_picture_overwrites_nothing(tmp_path: Path) -> None:
    """Not even what came after the beginning: that picture has an error."""
    (tmp_path / "0.jpg").write_bytes(b"somebody's")
    outcomes: list[Outcome] = []
    job = Job({}, Drawn(tmp_path, {}), want_faces=True)
    asyncio.run(job.run(StandInDetector({}), pictures(2), 1, outcomes.append))
    assert [isinstance(outcome.error, FacetError) and outcome.error.code for outcome in outcomes] == [
        "UNWRITABLE",
        False,
    ]
    assert (tmp_path / "0.jpg").read_bytes() == b"somebody's"
