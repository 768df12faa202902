"""Tiers restart under load, one part after the other: nothing is lost."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from wire import OpenLoad

from tests.conftest import Figures
from tests.stack.running import RunningStack, gone, running_stack, wait_for
from tests.stack.under_load import load_on, lost, measured

Roll = Callable[[RunningStack], None]


def roll_workers(stack: RunningStack) -> None:
    """SIGHUP to the supervisor, until every process is new and serves."""
    before = {worker.pid for worker in stack.workers()}
    stack.supervisors()[0].send_signal(signal.SIGHUP)
    wait_for(
        lambda: len(stack.workers()) == 4 and before.isdisjoint(worker.pid for worker in stack.workers()), "new workers"
    )
    wait_for(lambda: stack.serving() == 4, "they serve")


def roll_gateway(stack: RunningStack) -> None:
    """SIGHUP to gunicorn, until every process is new."""
    (gunicorn,) = stack.gateways()
    before = {process.pid for process in gunicorn.children()}
    assert before
    gunicorn.send_signal(signal.SIGHUP)
    wait_for(
        lambda: len(gunicorn.children()) == len(before) and before.isdisjoint(c.pid for c in gunicorn.children()),
        "new gateways",
    )


@pytest.mark.parametrize("roll", [roll_workers, roll_gateway])
def test_sighup_replaces_every_process_and_loses_nothing(
    processes: RunningStack, astronaut_file: bytes, figures: Figures, *, roll: Roll, long: bool
) -> None:
    """Of the supervisor and of gunicorn; in the long form until 5,000 requests were sent."""
    wait_for(lambda: processes.serving() == 4, "4 workers serve")
    times = 0
    with load_on(processes.url, astronaut_file, long=long) as load:
        while times == 0 or (long and len(load.requests) < 5000):
            roll(processes)
            times += 1
            answer_more(load)
    found = measured(load) | {"restarts": times}
    row = f"SIGHUP of {'inference' if roll is roll_workers else 'gunicorn'}"
    figures(row, found, at_most={"lost": 0}, at_least={"requests": 5000} if long else {})
    assert lost(load) == {}


def answer_more(load: OpenLoad) -> None:
    """Wait for answers to come."""
    count = len(load.requests)
    wait_for(lambda: len(load.requests) > count + 20, "20 more answers")


def test_of_two_of_each_tier_one_may_stop_or_die(
    tmp_path: Path, astronaut_file: bytes, figures: Figures, *, long: bool
) -> None:
    """A gateway's process is killed, a gateway stops, an inference service stops: nothing is lost."""
    with running_stack(tmp_path / "logs", "--workers=1", "--inference-replicas=2", "--web-replicas=2") as two:
        wait_for(lambda: two.envoy("cluster.inference.membership_healthy") == 2, "Envoy knows two workers")
        wait_for(lambda: two.envoy("cluster.web.membership_healthy") == 2, "Envoy knows two gateways")
        with load_on(two.url, astronaut_file, long=long, part=0.5) as load:  # what one of them bears
            answer_more(load)
            staying, leaving = two.gateways()
            victim = staying.children()[0]
            victim.kill()
            wait_for(lambda: len([p for p in staying.children() if not gone(p)]) == 2, "gunicorn replaces its process")
            answer_more(load)
            leaving.terminate()
            wait_for(lambda: gone(leaving), "the gateway ends")
            answer_more(load)
            service = next(p for p in two.supervisors() if p.environ()["FACET_HOST"] == "127.0.0.2")
            service.terminate()
            wait_for(lambda: gone(service), "the inference service ends")
            answer_more(load)
        figures("of two of each tier one stops, at half the load", measured(load), at_most={"lost": 0})
        assert lost(load) == {}
        assert two.log_lines("inference-127.0.0.2")[-1]["exit_code"] == 0
