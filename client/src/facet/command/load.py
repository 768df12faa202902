"""Open-loop load: requests are sent on schedule, whether or not earlier ones were answered.

In a closed loop, each caller waits for its answer before it sends the next request. It sends less to a slow service and
so misses the waiting that users would see (Gil Tene calls this coordinated omission). Here latency counts from the
scheduled time.
"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from facet.errors import KINDS, FacetError, TimedOut

NOT_SENT = "NOT_SENT"  # too many requests were in flight
# Requests that timed out waited longest, so they count in the percentiles. Rejected ones are fast and do not count.
TIMEOUT_CODES = {NOT_SENT, *(code for code, kind in KINDS.items() if kind is TimedOut)}
PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
LATE_SECONDS = 0.01  # requests sent later than this measure the generator, not the service


@dataclass(frozen=True, slots=True)
class Request:
    """One request, in seconds; `planned` counts from the start, the other times from `planned`."""

    planned: float
    late: float
    latency: float
    code: str
    """The code of its error; empty when the image was examined."""


async def open_loop(
    send: Callable[[], Awaitable[object]],
    *,
    rate: float,
    seconds: float,
    in_flight: int,
    send_within: float,
    after_each: Callable[[Request], None],
) -> None:
    """Send `rate` requests per second for this many seconds, and pass each to `after_each` when it has ended.

    At most `in_flight` are under way. A request that waits longer for its turn is late; after `send_within` seconds it
    is not sent.
    """
    slots, began = asyncio.Semaphore(in_flight), time.monotonic()

    async def one(planned: float) -> None:
        code = ""
        due = began + planned
        try:
            async with asyncio.timeout(due + send_within - time.monotonic()):
                await slots.acquire()
        except TimeoutError:
            after_each(Request(planned, send_within, send_within, NOT_SENT))
            return
        late = time.monotonic() - due
        try:
            await send()
        except FacetError as error:
            code = error.code
        finally:
            slots.release()
        after_each(Request(planned, late, time.monotonic() - due, code))

    async with asyncio.TaskGroup() as tasks:
        for number in range(math.ceil(rate * seconds)):
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            tasks.create_task(one(number / rate))


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of a load test. Times are milliseconds.

    Latencies are those of the images that were examined and of the requests that timed out, which count with the time
    that they waited. A percentile that falls among these is a lower bound.
    """

    rate: float
    achieved_rate: float
    """Images examined per second, until the last answer."""
    requests: int
    examined: int
    errors: dict[str, int]
    in_vain: int
    """The errors that count in the latencies: not sent in time, or not answered in time."""
    latency_ms: dict[str, float]
    late_ms: dict[str, float]
    """The delay after the scheduled time with which requests were sent."""
    kept_up: bool
    """Whether requests were sent on schedule."""


def report(requests: Sequence[Request], rate: float) -> Report:
    """Compute the figures of at least one request."""
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
    """Return the latencies that count, sorted: those of examined images and of timeouts."""
    return sorted(request.latency for request in requests if not request.code or request.code in TIMEOUT_CODES)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the smallest value that `percent` of all do not exceed."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def _milliseconds(ordered: Sequence[float], *percents: float) -> dict[str, float]:
    if not ordered:
        return {}
    found = {f"{percent:g}": round(1000 * percentile(ordered, percent), 2) for percent in percents}
    return found | {"max": round(1000 * ordered[-1], 2)}


def histogram(latencies: Sequence[float], bins: int = 12) -> list[tuple[float, float, int]]:
    """Count latencies in bins whose bounds grow by a factor: (from, to, count)."""
    low, high = min(latencies), max(latencies)
    factor = (high / low) ** (1 / bins) if high > low else 1.0
    counts = Counter(min(bins - 1, int(math.log(each / low, factor))) if factor > 1 else 0 for each in latencies)
    return [(low * factor**index, low * factor ** (index + 1), counts[index]) for index in range(max(counts) + 1)]
