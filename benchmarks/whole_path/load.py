"""Closed-loop load on a stack, and its cost: each caller sends the next request after the last answer."""

import asyncio
import json
import math
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

from whole_path.images import SampleImage
from whole_path.stacks import START_SECONDS, CannotCompare, Stack
from wire import Answer, Wire

SIZE, CALLERS = "640x480", 8  # of the targets
TIMEOUT = 120.0  # seconds: sixteen callers wait long for the baseline
SAME_PIXELS = 5  # maximum difference of two boxes of one face: the package rounds
WORKER = re.compile(rb'"worker": ?"([^"]+)"')


Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels."""


@dataclass(frozen=True)
class Request:
    """An encoded request, and the number of faces in its image."""

    name: str
    data: bytes
    faces: int


@dataclass
class Sample:
    """The figures of a period of load. Times are milliseconds; CPU time is per request."""

    rate: float
    """Answers per second while requests were sent."""
    latencies: dict[str, list[float]]
    """By the request's name."""
    cpu: dict[str, float]
    """By tier."""
    callers_cpu: float
    workers: dict[str, int] = field(default_factory=dict)
    """The number of answers of each worker, as far as the answers name it."""
    busiest: float = math.nan
    """The busiest worker's share of the CPU time of all workers."""


def faces_in(answer: Answer) -> int:
    """Count the faces of an answer without parsing it, which would cost more than the request."""
    return answer.body.count(b'"confidence"')


def first_answers(stack: Stack, images: Sequence[SampleImage]) -> dict[str, list[Box]]:
    """Send each image once and return the boxes of its faces.

    Raises CannotCompare when one is not answered with 200.
    """

    async def ask() -> dict[str, list[Box]]:
        wire = Wire(stack.url)
        found = {}
        for image in images:
            answer = await _answer(wire, image.as_json(), f"{stack.name}, {image.name}")
            if answer.status != 200:  # noqa: PLR2004
                raise CannotCompare(f"{stack.name}, {image.name}: {_short(answer)}")
            found[image.name] = [_box(result["box"]) for result in json.loads(answer.body)["results"]]
        wire.close()
        return found

    return asyncio.run(ask())


def _box(box: dict[str, dict[str, float]]) -> Box:
    return box["upLeft"]["x"], box["upLeft"]["y"], box["lowerRight"]["x"], box["lowerRight"]["y"]


def _short(answer: Answer) -> str:
    return f"{answer.status} {answer.body[:200].decode(errors='replace')}"


async def _answer(wire: Wire, data: bytes, what: str) -> Answer:
    """Send a request. Raises CannotCompare when there is no answer."""
    try:
        async with asyncio.timeout(TIMEOUT):
            return await wire.ask(data)
    except OSError as error:  # TimeoutError is one
        raise CannotCompare(f"{what}: no answer, {error!r}") from error


def require_same_faces(one: dict[str, list[Box]], other: dict[str, list[Box]]) -> None:
    """Compare the boxes of each image, in any order. Raises CannotCompare."""
    for image, boxes in one.items():
        left = list(other[image])
        for box in boxes:
            near = [each for each in left if max(abs(a - b) for a, b in zip(box, each, strict=True)) <= SAME_PIXELS]
            if not near:
                raise CannotCompare(f"{image}: only one of both finds a face at {box}; the other has {left}")
            left.remove(near[0])
        if left:
            raise CannotCompare(f"{image}: only one of both finds faces at {left}")


def until_all_answer(stack: Stack, request: Request, workers: int) -> None:
    """Send requests until every worker has answered one: facet is ready with its first worker."""
    give_up = time.monotonic() + START_SECONDS
    while len(closed_load(stack, [request], workers, 0.5).workers) < workers:
        if time.monotonic() > give_up:
            raise CannotCompare(f"{stack.name} has not all of its {workers} workers after {START_SECONDS} s")


def closed_load(
    stack: Stack, requests: Sequence[Request], callers: int, seconds: float, url: str = "", *, fewest: int = 1
) -> Sample:
    """Let callers send the requests in turn for this many seconds, or longer until there are `fewest` answers.

    The rate is that of this period. The answers after it count for the latencies and the CPU time. Raises CannotCompare
    when an answer is wrong or missing.
    """
    latencies: dict[str, list[float]] = {request.name: [] for request in requests}
    ended: list[float] = []
    workers: Counter[str] = Counter()
    turn = count()

    async def caller(wire: Wire, began: float) -> None:
        while (sent := time.monotonic()) < began + seconds or len(ended) < fewest:
            request = requests[next(turn) % len(requests)]
            answer = await _answer(wire, request.data, f"{stack.name}, {request.name}")
            ended.append(time.monotonic() - began)
            latencies[request.name].append(1000 * (time.monotonic() - sent))
            if answer.status != 200 or faces_in(answer) != request.faces:  # noqa: PLR2004
                expected = f"{stack.name}, {request.name}, {request.faces} faces expected"
                raise CannotCompare(f"{expected}: {_short(answer)}")
            if worker := WORKER.search(answer.body):
                workers[worker[1].decode()] += 1

    async def run() -> None:
        wire, began = Wire(url or stack.url), time.monotonic()
        await asyncio.gather(*(caller(wire, began) for _ in range(callers)))
        wire.close()

    before, each_before, own = stack.cpu_seconds(), stack.each_worker(), time.process_time()
    asyncio.run(run())
    own, after, each_after = time.process_time() - own, stack.cpu_seconds(), stack.each_worker()
    cpu = {tier: 1000 * (used - before[tier]) / len(ended) for tier, used in after.items()}
    took = max(seconds, ended[fewest - 1])
    rate = sum(moment <= took for moment in ended) / took
    busiest = share_of_busiest(each_before, each_after)
    return Sample(rate, latencies, cpu, 1000 * own / len(ended), dict(workers), busiest)


def share_of_busiest(before: dict[int, float], after: dict[int, float]) -> float:
    """Return the busiest process's share of the CPU time of all processes."""
    used = [seconds - before.get(process, 0.0) for process, seconds in after.items()]
    return max(used) / sum(used) if sum(used) > 0 else math.nan
