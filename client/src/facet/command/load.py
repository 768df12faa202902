"""Open-loop load: requests leave when they are planned, whatever becomes of the earlier ones.

A closed loop, in which each caller waits for its answer before it asks again, asks a slow service less often, and so
leaves out just the waiting that users would have seen (Gil Tene calls it coordinated omission). Here latency counts
from the planned time.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from facet.errors import KINDS, FacetError, TimedOut

NOT_SENT = "NOT_SENT"  # no place became free in time
# Who waited longest is in the percentiles, though the answer never came; a refusal is fast, and is not.
TIMEOUT_CODES = {NOT_SENT, *(code for code, kind in KINDS.items() if kind is TimedOut)}
PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
LATE_SECONDS = 0.01  # a request that leaves so much after its time says more of the generator than of the service


@dataclass(frozen=True, slots=True)
class Request:
    """One request. Times are seconds; `planned` counts from the start, the others from `planned`."""

    planned: float
    late: float
    latency: float
    code: str
    """Of its error; empty when the picture was examined."""


async def open_loop(
    send: Callable[[], Awaitable[object]],
    *,
    rate: float,
    seconds: float,
    in_flight: int,
    send_within: float,
    after_each: Callable[[Request], None],
) -> None:
    """Send `rate` requests a second for so many seconds, and give each to `after_each` when it has ended.

    At most `in_flight` are under way. A request that waits longer for its turn is late; after `send_within` seconds it
    is not sent.
    """
    places, began = asyncio.Semaphore(in_flight), time.monotonic()

    async def one(planned: float) -> None:
        code = ""
        due = began + planned
        try:
            async with asyncio.timeout(due + send_within - time.monotonic()):
                await places.acquire()
        except TimeoutError:
            after_each(Request(planned, send_within, send_within, NOT_SENT))
            return
        late = time.monotonic() - due
        try:
            await send()
        except FacetError as error:
            code = error.code
        finally:
            places.release()
        after_each(Request(planned, late, time.monotonic() - due, code))

    async with asyncio.TaskGroup() as tasks:
        for number in range(math.ceil(rate * seconds)):
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            tasks.create_task(one(number / rate))


@dataclass(frozen=True, slots=True)
class Report:
    """What a load found. Times are milliseconds.

    Latencies are those of the pictures that were examined and of those that waited in vain, which count as long as they
    waited: a percentile that reaches into them is at least so much.
    """

    rate: float
    achieved_rate: float
    """Pictures examined a second, until the last answer."""
    requests: int
    examined: int
    errors: dict[str, int]
    in_vain: int
    """Of the errors those that are in the latencies: not sent in time, or not answered in time."""
    latency_ms: dict[str, float]
    late_ms: dict[str, float]
    """How much after their time requests left."""
    kept_up: bool
    """Whether the requests left when they should have."""


def report(requests: Sequence[Request], rate: float) -> Report:
    """Reckon what a load found; there is at least one request."""
    examined = sum(not request.code for request in requests)
    late = sorted(request.late for request in requests)
    began = min(request.planned for request in requests)
    ended = max(request.planned + request.latency for request in requests)
    return Report(
        rate=rate,
        achieved_rate=round(examined / max(ended - began, 1 / rate), 2),
        requests=len(requests),
        examined=examined,
        errors=dict(Counter(request.code for request in requests if request.code)),
        in_vain=sum(request.code in TIMEOUT_CODES for request in requests),
        latency_ms=_milliseconds(latencies(requests), *PERCENTILES),
        late_ms=_milliseconds(late, 50.0, 99.0),
        kept_up=percentile(late, 99.0) <= LATE_SECONDS,
    )


def latencies(requests: Sequence[Request]) -> list[float]:
    """Give those that count, in order: of what was examined and of what waited in vain."""
    return sorted(request.latency for request in requests if not request.code or request.code in TIMEOUT_CODES)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Give the smallest value that `percent` of all do not exceed."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def _milliseconds(ordered: Sequence[float], *percents: float) -> dict[str, float]:
    if not ordered:
        return {}
    found = {f"{percent:g}": round(1000 * percentile(ordered, percent), 2) for percent in percents}
    return found | {"max": round(1000 * ordered[-1], 2)}


def histogram(latencies: Sequence[float], bins: int = 12) -> list[tuple[float, float, int]]:
    """Count latencies between bounds that grow by a factor: (from, to, how many)."""
    low, high = min(latencies), max(latencies)
    factor = (high / low) ** (1 / bins) if high > low else 1.0
    counts = Counter(min(bins - 1, int(math.log(each / low, factor))) if factor > 1 else 0 for each in latencies)
    return [(low * factor**index, low * factor ** (index + 1), counts[index]) for index in range(max(counts) + 1)]
