"""Batches of images: the order of the results, and when a service is given up."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Self, Unpack

import pytest
from facet import Annotated, Detection, FacetError
from facet.command.batch import MAX_FAILURES_IN_A_ROW, Batch, DrawnFolder, ServiceGone
from facet.command.detector import AsyncLocalClient
from facet.command.inputs import Input
from facet.command.results import Result
from facet.errors import error_for
from facet.messages import DetectOptions, DrawOptions, ImageSource

FOUND = Detection((), 10, 10, 1)
MANY = 1000


class StandInDetector(AsyncLocalClient):
    """Stands in for a client. It knows for each image an error code, "hangs", or nothing: then it finds no faces."""

    def __init__(self, errors: Mapping[int, str]) -> None:
        self._errors = errors
        self.hanging = asyncio.Semaphore(0)
        self.drawn: list[int] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def detect(self, image: ImageSource, **_: Unpack[DetectOptions]) -> Detection:
        assert isinstance(image, bytes)
        code = self._errors.get(int(image), "")
        if code == "hangs":
            self.hanging.release()
            await asyncio.Event().wait()
        if code:
            raise error_for(code, "as the test wants")
        return FOUND

    async def annotate(self, image: ImageSource, **_: Unpack[DrawOptions]) -> Annotated:
        assert isinstance(image, bytes)
        self.drawn.append(int(image))
        return Annotated(b"drawn", 0, FOUND)


def images(count: int = MANY) -> list[Input]:
    return [Input(str(number), str(number), str(number).encode()) for number in range(count)]


def run(errors: Mapping[int, str]) -> tuple[list[str], bool]:
    """Examine many images; return the code of each result, and whether the service was given up."""
    results: list[Result] = []
    try:
        asyncio.run(Batch({}, None, want_faces=True).run(StandInDetector(errors), images(), 4, results.append))
        gone = False
    except ServiceGone:
        gone = True
    assert [result.name for result in results] == [str(number) for number in range(len(results))]
    return [result.error.code if result.error else "" for result in results], gone


@pytest.mark.parametrize("code", ["BUSY", "NOT_READY", "DEADLINE_EXCEEDED", "UNEXPECTED_ANSWER"])
def test_a_service_without_an_answer_is_given_up_after_some_images(code: str) -> None:
    """One failure is not enough: the image may crash every worker. Each of them has a record."""
    assert run({0: code}) == ([code] + (MANY - 1) * [""], False)
    assert run(dict.fromkeys(range(MAX_FAILURES_IN_A_ROW - 1), code))[1] is False
    assert run(dict.fromkeys(range(MANY), code)) == (MAX_FAILURES_IN_A_ROW * [code], True)


def test_a_service_that_never_answered_is_given_up_at_once() -> None:
    """A service that has answered may come back."""
    everything = dict.fromkeys(range(MANY), "UNREACHABLE")
    assert run(everything) == (["UNREACHABLE"], True)
    assert run(everything | {0: "BUSY"}) == (["BUSY"] + (MAX_FAILURES_IN_A_ROW - 1) * ["UNREACHABLE"], True)
    assert run(everything | {0: ""}) == (["", *MAX_FAILURES_IN_A_ROW * ["UNREACHABLE"]], True)


def test_only_an_answer_about_an_image_ends_a_streak_of_failures() -> None:
    """A refused image is such an answer. A file that cannot be read does not count."""
    busy = dict.fromkeys(range(MANY), "BUSY")
    assert len(run(busy | {5: "INVALID_IMAGE"})[0]) == 6 + MAX_FAILURES_IN_A_ROW
    assert len(run(busy | {5: "UNREADABLE"})[0]) == 1 + MAX_FAILURES_IN_A_ROW


def test_an_interrupted_batch_keeps_what_is_done() -> None:
    """This includes results that wait for an earlier one. Failed images are left to --resume."""
    results: list[Result] = []

    async def interrupt() -> None:
        detector = StandInDetector({0: "hangs", 1: "INVALID_IMAGE", 4: "hangs"})
        running = asyncio.create_task(Batch({}, None, want_faces=True).run(detector, images(5), 2, results.append))
        await detector.hanging.acquire()
        await detector.hanging.acquire()
        running.cancel()
        await running

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(interrupt())
    assert [result.name for result in results] == ["2", "3"]


def test_an_image_drawn_by_an_earlier_run_is_not_drawn_again(tmp_path: Path) -> None:
    """Only its record is missing. An empty file is drawn again, since a crash may leave one."""
    (tmp_path / "0.jpg").write_bytes(b"old")
    (tmp_path / "1.jpg").touch()
    results: list[Result] = []
    detector, drawn = StandInDetector({}), DrawnFolder(tmp_path, {}, resume=True)
    asyncio.run(Batch({}, drawn, want_faces=True).run(detector, images(3), 1, results.append))
    assert [result.detection for result in results] == [FOUND] * 3
    assert detector.drawn == [1, 2]
    assert [(tmp_path / f"{number}.jpg").read_bytes() for number in range(3)] == [b"old", b"drawn", b"drawn"]


def test_a_drawn_image_overwrites_nothing(tmp_path: Path) -> None:
    """A file that appears during the run stays, and its image has an error."""
    (tmp_path / "0.jpg").write_bytes(b"somebody's")
    results: list[Result] = []
    batch = Batch({}, DrawnFolder(tmp_path, {}), want_faces=True)
    asyncio.run(batch.run(StandInDetector({}), images(2), 1, results.append))
    assert [isinstance(result.error, FacetError) and result.error.code for result in results] == [
        "UNWRITABLE",
        False,
    ]
    assert (tmp_path / "0.jpg").read_bytes() == b"somebody's"
