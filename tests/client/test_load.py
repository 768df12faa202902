"""Open-loop load: the figures include what a slow service costs."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from facet import FacetError
from facet.command.latency_report import as_text
from facet.command.load import NOT_SENT, Request, histogram, open_loop, percentile, report

STALL = 0.5  # seconds
RATE = 200.0


class StandInService:
    """Answers at once, except that it stalls once and every request waits."""

    def __init__(self) -> None:
        self._calls = 0
        self._stalled = asyncio.Lock()

    async def __call__(self) -> None:
        self._calls += 1
        async with self._stalled:
            if self._calls == 20:
                await asyncio.sleep(STALL)


def load(send: Callable[[], Awaitable[object]], *, in_flight: int, send_within: float = 60) -> list[Request]:
    requests: list[Request] = []
    asyncio.run(
        open_loop(send, rate=RATE, seconds=1, in_flight=in_flight, send_within=send_within, after_each=requests.append)
    )
    return requests


@pytest.mark.parametrize("in_flight", [1000, 1])
def test_a_stall_delays_every_request_that_would_have_waited(in_flight: int) -> None:
    """All requests scheduled in the first half of the stall take at least half of it.

    It does not matter whether they wait at the service or to be sent.
    """
    requests = load(StandInService(), in_flight=in_flight)
    assert len(requests) == RATE
    waited = [request for request in requests if request.latency > STALL / 2]
    assert len(waited) >= RATE * STALL / 2 - 1
    if in_flight == 1:
        assert not report(requests, RATE).kept_up


def test_a_request_that_cannot_be_sent_in_time_counts() -> None:
    """It counts as an error, and in the latencies with the time that it waited; so does a timeout."""
    never = asyncio.Event

    async def send() -> None:
        try:
            await asyncio.wait_for(never().wait(), 1)
        except TimeoutError:
            raise FacetError("DEADLINE_EXCEEDED", "too slow") from None

    requests = load(send, in_flight=3, send_within=0.5)
    found = report(requests, RATE)
    assert found.examined == 0
    assert found.in_vain == RATE
    assert found.latency_ms["50"] == 500
    assert found.latency_ms["max"] >= 1000
    assert found.errors["DEADLINE_EXCEEDED"] >= 3
    assert found.errors[NOT_SENT] == RATE - found.errors["DEADLINE_EXCEEDED"]


def test_percentiles_are_values_that_occurred() -> None:
    """A percentile is the smallest value that this share of all values does not exceed."""
    values = [float(value) for value in range(1, 101)]
    assert [percentile(values, percent) for percent in (50, 90, 99, 99.9, 100)] == [50, 90, 99, 100, 100]
    assert percentile([7.0], 50) == 7


def test_rejected_requests_count_by_code_and_not_in_the_percentiles() -> None:
    """They are fast, and would improve the figures."""
    requests = [
        Request(0, 0, 0.2, ""),
        Request(1, 0, 0.001, "BUSY"),
        Request(2, 0, 0.4, ""),
        Request(3, 0, 0.001, "BUSY"),
    ]
    found = report(requests, 1.0)
    assert (found.requests, found.examined, found.errors, found.in_vain) == (4, 2, {"BUSY": 2}, 0)
    assert found.latency_ms == {"50": 200, "90": 400, "95": 400, "99": 400, "99.9": 400, "max": 400}
    assert found.achieved_rate == pytest.approx(2 / 3.001, abs=0.01)


def test_a_percentile_among_timeouts_is_reported_as_a_lower_bound() -> None:
    """How long they would have waited is unknown."""
    requests = [*(Request(number, 0, 0.2, "") for number in range(9)), Request(9, 0, 5, "DEADLINE_EXCEEDED")]
    lines = as_text(report(requests, 1.0), requests).splitlines()
    assert "        90  200.0 ms" in lines
    assert "        95  at least 5000.0 ms" in lines
    assert "timed out, and count with the time that they waited: 1" in lines


def test_the_histogram_counts_everything_once() -> None:
    """Equal values are one bin."""
    values = [0.001 * 1.1**power for power in range(60)]
    counted = histogram(values)
    assert sum(count for _, _, count in counted) == len(values)
    assert counted[0][0] == pytest.approx(min(values))
    assert counted[-1][1] == pytest.approx(max(values))
    assert histogram([0.5, 0.5]) == [(0.5, 0.5, 2)]
