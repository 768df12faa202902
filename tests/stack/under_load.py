"""Load while parts die: what share of what a stack bears, which answers are right, and what became of them."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Protocol

import httpx
import psutil
from facet.command.load import Request, percentile
from wire import Answer, Judge, OpenLoad, capacity, closed_load, post, same_results

from tests.stack.running import wait_for

REFUSED = "refused"
LONG_SHARE = 0.7  # of the capacity
SHORT_SHARE = 0.3  # where other tests run at the same time


def right_or_refused(right: Judge) -> Judge:
    """Make the judge who tells a clean refusal, 503 with its code and a time to try again after, from what is lost."""

    def judge(answer: Answer) -> str:
        if answer.status != 503 or answer.headers.get("retry-after") != "1":
            return right(answer)
        return REFUSED if json.loads(answer.body)["code"] in ("BUSY", "NOT_READY") else right(answer)

    return judge


def nobody_is_refused(url: str, request: bytes, callers: int = 4) -> bool:
    """Whether so many callers are all answered: after a crowd the edge lets everybody in after a few seconds."""
    requests = closed_load(
        url, request, lambda answer: "" if answer.status == 200 else "no", callers=callers, seconds=0.5
    )
    return not any(each.code for each in requests)


def load_on(url: str, picture: bytes, *, long: bool, refusals: bool = False, part: float = 1.0) -> OpenLoad:
    """Measure what a front door bears just now, and make open load of it, or of a part of it.

    `refusals` are told from other losses.
    """
    request = post("/predict", picture, "image/webp")
    wait_for(lambda: nobody_is_refused(url, request), "nobody is refused any more")
    answer = httpx.post(f"{url}/predict", content=picture, headers={"Content-Type": "image/webp"}, timeout=60)
    (face,) = answer.raise_for_status().json()["results"]
    right = same_results([face])
    bears = capacity(url, request, right, seconds=5 if long else 1)
    share = part * (LONG_SHARE if long else SHORT_SHARE)
    return OpenLoad(url, request, right_or_refused(right) if refusals else right, share * bears)


def percentile_ms(requests: Iterable[Request], percent: int) -> float:
    """Give the milliseconds that so many per cent of them do not exceed."""
    return round(1000 * percentile(sorted(request.latency for request in requests), percent), 1)


def measured(load: OpenLoad) -> dict[str, float]:
    """Give the figures of a load that has ended. Lost is what was neither right nor, where it may be, refused."""
    return {
        "requests": len(load.requests),
        "lost": load.wrong.total() - load.wrong[REFUSED],
        "rate": round(load.rate, 1),
        "answered_p99_s": round(
            percentile_ms((request for request in load.requests if not request.code), 99) / 1000, 3
        ),
        "longest_s": round(max(request.latency for request in load.requests), 3),
    }


def lost(load: OpenLoad) -> dict[str, int]:
    """Give what was wrong, but for BUSY: that says that this machine has become slower than it was measured to be.

    In the figures it is lost all the same.
    """
    return {code: count for code, count in load.wrong.items() if code != "503 BUSY"}


def first_answer_after(load: OpenLoad, moment: float) -> float:
    """Give the seconds from the first request after a moment to the first right answer to one of these."""
    requests = load.since(moment)
    answered = min(request.planned + request.latency for request in requests if not request.code)
    return round(answered - min(request.planned for request in requests), 2)


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
        lines = sorted(stack.log_lines("inference"), key=lambda line: str(line["ts"]))
        return replacements([line for line in lines if line["ts"] >= began], kills)

    found: list[float] = wait_for(replaced, f"{kills} workers are replaced", every=1)
    return found


def replacements(log: Iterable[dict[str, Any]], deaths: int) -> list[float]:
    """Give the seconds from a worker's end until another serves in its place, when that is so after so many deaths.

    The other may have another slot; where there are containers, it is of the same one. One that is killed before it
    serves only makes its place wait longer.
    """
    waiting: dict[str, list[datetime]] = {}  # of each container, the ends that nobody has made good
    unready: set[tuple[str, int]] = set()  # started, and not yet serving
    seconds, found = [], 0
    for line in log:
        container = line.get("container", "")
        worker = (container, line.get("pid", 0))
        ends = waiting.setdefault(container, [])
        if line["message"] == "worker started":
            unready.add(worker)
        elif line["message"] == "worker ended":
            found += 1
            if worker not in unready:
                ends.append(datetime.fromisoformat(line["ts"]))
            unready.discard(worker)
        elif line["message"] == "worker serves":
            unready.discard(worker)
            if ends:
                seconds.append((datetime.fromisoformat(line["ts"]) - ends.pop(0)).total_seconds())
    return seconds if found >= deaths and not any(waiting.values()) else []
