"""Closed-loop load on a stack, and what it took: each caller asks again when it has been answered."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

from whole_path.pictures import Picture
from whole_path.stacks import START_SECONDS, Stack
from wire import Answer, Wire

PATIENCE = 120.0  # seconds: the baseline lets sixteen callers wait for long
WORKER = re.compile(rb'"worker": ?"([^"]+)"')


@dataclass(frozen=True)
class Request:
    """A picture put into bytes for the wire, and how many faces must come back."""

    name: str
    data: bytes
    faces: int


@dataclass
class Sample:
    """What a stretch of load came to. Times are milliseconds, CPU time is that of one request."""

    rate: float
    latencies: dict[str, list[float]]
    """By the request's name."""
    cpu: dict[str, float]
    """By tier."""
    callers_cpu: float
    workers: dict[str, int] = field(default_factory=dict)
    """How many requests each worker answered, as far as the answers say."""


def faces_in(answer: Answer) -> int:
    """Count the faces of an answer without taking it apart, which would cost more than sending the request."""
    return answer.body.count(b'"confidence"')


def first_answers(stack: Stack, pictures: Sequence[Picture]) -> dict[str, int]:
    """Send each picture once, and say how many faces were found in it."""

    async def ask() -> dict[str, int]:
        wire = Wire(stack.url)
        found = {picture.name: faces_in(await wire.ask(picture.as_json())) for picture in pictures}
        wire.close()
        return found

    return asyncio.run(ask())


def until_all_answer(stack: Stack, request: Request, workers: int) -> None:
    """Send requests until every worker has answered one: facet is ready with the first."""
    give_up = time.monotonic() + START_SECONDS
    while len(closed_load(stack, [request], 2 * workers, 0.5).workers) < workers:
        if time.monotonic() > give_up:
            sys.exit(f"{stack.name} has not all of its {workers} workers after {START_SECONDS} s")


def closed_load(stack: Stack, requests: Sequence[Request], callers: int, seconds: float, url: str = "") -> Sample:
    """Let callers send the requests in turn for so many seconds and wait for the last answers.

    Ends the run when an answer is wrong: what finds other faces cannot be compared.
    """
    latencies: dict[str, list[float]] = {request.name: [] for request in requests}
    workers: Counter[str] = Counter()
    turn = count()

    async def caller(wire: Wire, due: float) -> None:
        while (sent := time.monotonic()) < due:
            request = requests[next(turn) % len(requests)]
            async with asyncio.timeout(PATIENCE):
                answer = await wire.ask(request.data)
            latencies[request.name].append(1000 * (time.monotonic() - sent))
            if answer.status != 200 or faces_in(answer) != request.faces:  # noqa: PLR2004
                sys.exit(
                    f"{stack.name}, {request.name}: {answer.status}, {faces_in(answer)} faces, not {request.faces}"
                )
            if worker := WORKER.search(answer.body):
                workers[worker[1].decode()] += 1

    async def run() -> None:
        wire = Wire(url or stack.url)
        await asyncio.gather(*(caller(wire, time.monotonic() + seconds) for _ in range(callers)))
        wire.close()

    before, own, began = stack.cpu_seconds(), time.process_time(), time.monotonic()
    asyncio.run(run())
    took, own = time.monotonic() - began, time.process_time() - own
    answered = sum(map(len, latencies.values()))
    cpu = {tier: 1000 * (used - before[tier]) / answered for tier, used in stack.cpu_seconds().items()}
    return Sample(answered / took, latencies, cpu, 1000 * own / answered, dict(workers))
