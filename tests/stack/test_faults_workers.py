"""Workers die, hang and fill up under load: what is lost, and how long the stack takes to recover."""

import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import psutil
import pytest
from inference.settings import Settings as InferenceSettings
from wire import OpenLoad, closed_load, post, same_results

from tests.conftest import Figures
from tests.stack.running import RunningStack, gone, wait_for
from tests.stack.under_load import (
    REFUSED,
    first_answer_after,
    kill_workers_repeatedly,
    load_on,
    lost,
    measured,
    percentile_ms,
    right_or_refused,
)

StartLoad = Callable[..., OpenLoad]
# There is no timeout per try. Envoy's connection_keepalive notices a hanging worker after its interval with jitter and
# its timeout; then follows the back-off before the retry.
DETECTION_SECONDS = 5.15 + 0.1


@pytest.fixture
def start_load(processes: RunningStack, astronaut_file: bytes, *, long: bool) -> StartLoad:
    """Open-loop load on the stack, which starts when all four workers serve."""

    def start(*, refusals: bool = False) -> OpenLoad:
        wait_until_whole(processes)
        return load_on(processes.url, astronaut_file, long=long, refusals=refusals)

    return start


def wait_until_whole(stack: RunningStack) -> None:
    """Wait until all four workers serve and Envoy knows it."""
    wait_for(lambda: stack.serving() == 4, "4 workers serve")
    wait_for(lambda: stack.envoy("cluster.inference.membership_healthy") == 4, "Envoy knows 4 workers")


def answered_since(load: OpenLoad, moment: float) -> int:
    """Count the correct answers to requests since a moment."""
    return sum(1 for request in load.since(moment) if not request.code)


def kill(workers: list[psutil.Process]) -> None:
    """Send SIGKILL to workers, and wait until they have ended."""
    for worker in workers:
        worker.kill()
    wait_for(lambda: all(gone(worker) for worker in workers), "the workers have ended")


def test_a_killed_worker_costs_no_request_and_is_replaced(
    processes: RunningStack, start_load: StartLoad, figures: Figures, *, long: bool
) -> None:
    """When workers are killed one by one, every request is answered and new workers serve."""
    with start_load() as load:
        seconds = kill_workers_repeatedly(processes, long=long)
    found = measured(load) | {"replaced": len(seconds), "replaced_after_s": round(max(seconds), 1)}
    figures("kill -9 of a worker, again and again", found, at_most={"lost": 0, "replaced_after_s": 15})
    assert lost(load) == {}
    assert len(processes.workers()) == 4


def test_with_one_worker_left_requests_are_answered_or_rejected_cleanly(
    processes: RunningStack, start_load: StartLoad, figures: Figures
) -> None:
    """When all workers but one are killed, every answer is correct or a clean 503 until the others are back."""
    with start_load(refusals=True) as load:
        time.sleep(1)
        kill(processes.workers()[:-1])
        wait_until_whole(processes)
        whole = time.monotonic()
        wait_for(lambda: answered_since(load, whole) > 20, "20 more answers")
    found = measured(load) | {"refused": load.wrong[REFUSED]}
    figures("kill -9 of all workers but one; a clean refusal is not lost", found, at_most={"lost": 0})
    assert set(+load.wrong) <= {REFUSED}


def test_without_workers_requests_are_rejected_at_once_until_workers_are_back(
    processes: RunningStack, start_load: StartLoad, figures: Figures
) -> None:
    """When all workers are killed, every answer is a clean 503 without delay; then the stack recovers by itself."""
    with start_load(refusals=True) as load:
        time.sleep(1)
        kill(processes.workers())
        killed = time.monotonic()
        wait_until_whole(processes)
        whole = time.monotonic()
        wait_for(lambda: answered_since(load, whole) > 20, "20 more answers")
    refused = [request for request in load.requests if request.code == REFUSED]
    found = measured(load) | {
        "refused": len(refused),
        "slowest_refusal_s": round(max(request.latency for request in refused), 2),
        "first_answer_after_s": first_answer_after(load, killed),
    }
    most = {"lost": 0, "slowest_refusal_s": 1, "first_answer_after_s": 15}
    figures("kill -9 of all workers; a clean refusal is not lost", found, at_most=most)
    assert set(load.wrong) == {REFUSED}


def test_a_stopped_worker_costs_no_request(
    processes: RunningStack, start_load: StartLoad, figures: Figures, *, long: bool
) -> None:
    """When a worker hangs after SIGSTOP, Envoy notices, and another worker answers its requests.

    After SIGCONT it continues, unless the supervisor has replaced it in the long form.
    """
    enough = 500 if long else 20
    with start_load() as load:
        wait_for(lambda: len(load.requests) > enough, f"{enough} answers before")
        before = list(load.requests)
        victim = processes.workers()[2]
        unanswered = processes.envoy("cluster.inference.http2.keepalive_timeout")
        victim.send_signal(signal.SIGSTOP)
        try:
            wait_for(lambda: processes.envoy("cluster.inference.http2.keepalive_timeout") > unanswered, "Envoy notices")
            stopped = time.monotonic()
            wait_for(lambda: len(load.since(stopped)) > 20, "20 more answers")
            assert victim.status() == psutil.STATUS_STOPPED
            time.sleep(30 if long else 0)
        finally:
            with suppress(psutil.NoSuchProcess):
                victim.send_signal(signal.SIGCONT)
        wait_until_whole(processes)
    found = measured(load)
    found["p99_before_s"] = round(percentile_ms(before, 99) / 1000, 3)
    longest = round(DETECTION_SECONDS + found["p99_before_s"], 3)
    figures(
        f"SIGSTOP of a worker, {30 if long else 0} s more than Envoy needs to find out",
        found,
        at_most={"lost": 0, "longest_s": longest},
    )
    assert lost(load) == {}
    assert long or victim.pid in [worker.pid for worker in processes.workers()]


def test_full_workers_fail_no_health_check_and_are_not_ejected(
    processes: RunningStack, astronaut_file: bytes, figures: Figures, *, long: bool
) -> None:
    """With more callers than places, some are rejected, and every worker still answers each health check."""
    wait_until_whole(processes)
    ejections = "cluster.inference.outlier_detection.ejections_enforced_total"
    ejected, checks, failed, fewest = processes.envoy(ejections), 0, 0, 4
    right = httpx.post(
        f"{processes.url}/predict", content=astronaut_file, headers={"Content-Type": "image/webp"}, timeout=60
    ).json()
    refused = right_or_refused(same_results(right["results"]))
    request = post("/predict", astronaut_file, "image/webp")
    callers = 4 * (1 + InferenceSettings().queue_places) + 24
    with ThreadPoolExecutor(1) as pool:
        seconds = 180 if long else 5
        load = pool.submit(closed_load, processes.url, request, refused, callers=callers, seconds=seconds)
        while not load.done():
            failed += 4 - processes.serving(within=2 if long else 5)  # Envoy waits 2 s
            checks += 4
            fewest = min(fewest, processes.envoy("cluster.inference.membership_healthy"))
    found = {
        "requests": len(load.result()),
        "refused": sum(request.code == REFUSED for request in load.result()),
        "health_checks": checks,
        "failed_health_checks": failed,
        "workers_that_envoy_found_healthy": fewest,
        "ejections": processes.envoy(ejections) - ejected,
    }
    figures(
        f"full workers: {callers} callers at once, {seconds} s",
        found,
        at_most={"failed_health_checks": 0, "ejections": 0},
        at_least={"workers_that_envoy_found_healthy": 4},
    )
    assert {request.code for request in load.result()} == {"", REFUSED}
    assert (failed, fewest, found["ejections"]) == (0, 4, 0)
