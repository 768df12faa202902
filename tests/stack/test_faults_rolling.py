"""Tiers restart under load, one process after the other, without losing requests."""

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
    """Send SIGHUP to the supervisor, and wait until all workers are new and serve."""
    before = {worker.pid for worker in stack.workers()}
    stack.supervisors()[0].send_signal(signal.SIGHUP)
    wait_for(
        lambda: len(stack.workers()) == 4 and before.isdisjoint(worker.pid for worker in stack.workers()), "new workers"
    )
    wait_for(lambda: stack.serving() == 4, "they serve")


def roll_gateway(stack: RunningStack) -> None:
    """Send SIGHUP to gunicorn, and wait until all its processes are new."""
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
    """The supervisor and gunicorn each replace their processes; in the long form, repeatedly for 5,000 requests."""
    wait_for(lambda: processes.serving() == 4, "4 workers serve")
    times = 0
    with load_on(processes.url, astronaut_file, long=long) as load:
        while times == 0 or (long and len(load.requests) < 5000):
            roll(processes)
            times += 1
            wait_for_answers(load)
    found = measured(load) | {"restarts": times}
    row = f"SIGHUP of {'inference' if roll is roll_workers else 'gunicorn'}"
    figures(row, found, at_most={"lost": 0}, at_least={"requests": 5000} if long else {})
    assert lost(load) == {}


def wait_for_answers(load: OpenLoad) -> None:
    """Wait for 20 more answers."""
    count = len(load.requests)
    wait_for(lambda: len(load.requests) > count + 20, "20 more answers")


def test_with_two_replicas_one_may_stop_or_die(
    tmp_path: Path, astronaut_file: bytes, figures: Figures, *, long: bool
) -> None:
    """Nothing is lost when a gateway's process is killed, a gateway stops and an inference service stops."""
    with running_stack(tmp_path / "logs", "--workers=1", "--inference-replicas=2", "--web-replicas=2") as two:
        wait_for(lambda: two.envoy("cluster.inference.membership_healthy") == 2, "Envoy knows two workers")
        wait_for(lambda: two.envoy("cluster.web.membership_healthy") == 2, "Envoy knows two gateways")
        with load_on(two.url, astronaut_file, long=long, part=0.5) as load:  # one replica has to answer alone
            wait_for_answers(load)
            staying, leaving = two.gateways()
            victim = staying.children()[0]
            victim.kill()
            wait_for(lambda: len([p for p in staying.children() if not gone(p)]) == 2, "gunicorn replaces its process")
            wait_for_answers(load)
            leaving.terminate()
            wait_for(lambda: gone(leaving), "the gateway ends")
            wait_for_answers(load)
            service = next(p for p in two.supervisors() if p.environ()["FACET_HOST"] == "127.0.0.2")
            service.terminate()
            wait_for(lambda: gone(service), "the inference service ends")
            wait_for_answers(load)
        figures("of two of each tier one stops, at half the load", measured(load), at_most={"lost": 0})
        assert lost(load) == {}
        assert two.log_lines("inference-127.0.0.2")[-1]["exit_code"] == 0
