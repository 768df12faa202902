"""Load while parts die: what share of what a stack bears, which answers are right, and what became of them."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Protocol

import httpx
import psutil
from wire import Answer, Judge, OpenLoad, capacity, post, same_results

from tests.stack.running import wait_for

REFUSED = "refused"
LONG_SHARE = 0.7  # of the capacity
SHORT_SHARE = 0.3  # where other tests run at the same time


def right_or_refused(right: Judge) -> Judge:
    """Make the judge who tells a clean refusal, 503 with the time to try again after, from a lost request."""

    def judge(answer: Answer) -> str:
        refused = answer.status == 503 and answer.headers.get("retry-after") == "1"
        return REFUSED if refused else right(answer)

    return judge


def load_on(url: str, picture: bytes, *, long: bool, refusals: bool = False) -> OpenLoad:
    """Measure what a front door bears just now, and make open load of it. `refusals` are told from other losses."""
    answer = httpx.post(f"{url}/predict", content=picture, headers={"Content-Type": "image/webp"}, timeout=60)
    right = same_results(answer.raise_for_status().json()["results"])
    request = post("/predict", picture, "image/webp")
    bears = capacity(url, request, right, seconds=5 if long else 1)
    share = LONG_SHARE if long else SHORT_SHARE
    return OpenLoad(url, request, right_or_refused(right) if refusals else right, share * bears)


def measured(load: OpenLoad) -> dict[str, float]:
    """Give the figures of a load that has ended. Lost is what was neither right nor, where it may be, refused."""
    latencies = sorted(shot.latency for shot in load.shots)
    return {
        "requests": len(latencies),
        "lost": load.wrong.total() - load.wrong[REFUSED],
        "rate": round(load.rate, 1),
        "p99_s": round(latencies[len(latencies) * 99 // 100], 3),
        "longest_s": round(latencies[-1], 3),
    }


def first_answer_after(load: OpenLoad, moment: float) -> float:
    """Give the seconds from the first request after a moment to the first right answer to one of these."""
    shots = load.since(moment)
    answered = min(shot.planned + shot.latency for shot in shots if not shot.code)
    return round(answered - min(shot.planned for shot in shots), 2)


class Killable(Protocol):
    """A stack of either kind, as far as a murderer sees it."""

    def workers(self) -> list[psutil.Process]:
        """The worker processes."""

    def log_lines(self, service: str) -> list[dict[str, Any]]:
        """Read a service's log."""


def kill_again_and_again(stack: Killable, *, long: bool) -> list[float]:
    """Kill -9 a random worker, in the long form every 10 s for 3 minutes; give the seconds until each was replaced."""
    began, kills, pause = datetime.now(UTC).isoformat(), *((18, 10) if long else (2, 3))
    chance = random.Random(1)
    for _ in range(kills):
        chance.choice(stack.workers()).kill()
        time.sleep(pause)

    def replaced() -> list[float]:
        seconds = _replacements(line for line in stack.log_lines("inference") if line["ts"] >= began)
        return seconds if len(seconds) == kills else []

    found: list[float] = wait_for(replaced, f"{kills} workers are replaced")
    return found


def _replacements(log: Iterable[dict[str, Any]]) -> list[float]:
    """Give the seconds from each worker's end to the moment in which its successor served, by the supervisor."""
    ended: dict[int, datetime] = {}
    seconds = []
    for line in log:
        if line["message"] == "worker ended":
            ended[line["slot"]] = datetime.fromisoformat(line["ts"])
        elif line["message"] == "worker serves" and line["slot"] in ended:
            seconds.append((datetime.fromisoformat(line["ts"]) - ended.pop(line["slot"])).total_seconds())
    return seconds
