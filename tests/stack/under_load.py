"""Load while parts of a stack die: its rate, its correct answers, and its figures."""

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
    """Return a judge that tells clean rejections, 503 with a code and Retry-After, from lost requests."""

    def judge(answer: Answer) -> str:
        if answer.status != 503 or answer.headers.get("retry-after") != "1":
            return right(answer)
        return REFUSED if json.loads(answer.body)["code"] in ("BUSY", "NOT_READY") else right(answer)

    return judge


def nothing_is_rejected(url: str, request: bytes, callers: int = 4) -> bool:
    """Return whether all requests are answered. After an overload, the edge rejects requests for a few more seconds."""
    requests = closed_load(
        url, request, lambda answer: "" if answer.status == 200 else "no", callers=callers, seconds=0.5
    )
    return not any(each.code for each in requests)


def load_on(url: str, image: bytes, *, long: bool, refusals: bool = False, part: float = 1.0) -> OpenLoad:
    """Measure the capacity of a stack, and return open-loop load at a share of it.

    `part` reduces the share. With `refusals`, clean rejections are counted apart from lost requests.
    """
    request = post("/predict", image, "image/webp")
    wait_for(lambda: nothing_is_rejected(url, request), "no request is rejected")
    answer = httpx.post(f"{url}/predict", content=image, headers={"Content-Type": "image/webp"}, timeout=60)
    (face,) = answer.raise_for_status().json()["results"]
    right = same_results([face])
    bears = capacity(url, request, right, seconds=5 if long else 1)
    share = part * (LONG_SHARE if long else SHORT_SHARE)
    return OpenLoad(url, request, right_or_refused(right) if refusals else right, share * bears)


def percentile_ms(requests: Iterable[Request], percent: int) -> float:
    """Return a percentile of the latencies in milliseconds."""
    return round(1000 * percentile(sorted(request.latency for request in requests), percent), 1)


def measured(load: OpenLoad) -> dict[str, float]:
    """Return the figures of a load that has ended. A request without a correct answer or clean rejection is lost."""
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
    """Return all wrong answers except BUSY, which means that the machine is slower than when its capacity was measured.

    The figures count BUSY as lost.
    """
    return {code: count for code, count in load.wrong.items() if code != "503 BUSY"}


def first_answer_after(load: OpenLoad, moment: float) -> float:
    """Return the seconds from the first request after a moment to the first correct answer to a later request."""
    requests = load.since(moment)
    answered = min(request.planned + request.latency for request in requests if not request.code)
    return round(answered - min(request.planned for request in requests), 2)


class StackWithWorkers(Protocol):
    """A stack of processes or of containers."""

    def workers(self) -> list[psutil.Process]:
        """Return the worker processes."""

    def log_lines(self, service: str) -> list[dict[str, Any]]:
        """Parse the log of a service."""


def kill_workers_repeatedly(stack: StackWithWorkers, *, long: bool) -> list[float]:
    """Kill a random worker with SIGKILL at intervals; return the seconds until each was replaced."""
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
    """Return the seconds from the end of each worker until another one serves in its place.

    The list is empty until `deaths` workers have ended and all are replaced. A successor may have another slot, but is
    in the same container. A successor that is killed before it serves prolongs the replacement.
    """
    waiting: dict[str, list[datetime]] = {}  # for each container, when the workers ended that are not yet replaced
    unready: set[tuple[str, int]] = set()  # workers that have started and do not serve yet
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
