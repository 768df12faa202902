"""Containers are scaled, killed and restarted under load without losing requests."""

import subprocess
from collections.abc import Iterator

import pytest

from tests.conftest import Figures
from tests.stack.compose import ComposeStack, docker, worker_ids
from tests.stack.load import Load
from tests.stack.running import ROOT, wait_for
from tests.stack.under_load import kill_workers_repeatedly, load_on, lost, measured

CALLERS = 8


@pytest.fixture
def scaled(compose: ComposeStack) -> Iterator[ComposeStack]:
    """Three containers of inference and two of web; one of each afterwards."""
    compose.up(inference=3, web=2)
    yield compose
    compose.up(inference=1, web=1)


def answered(stack: ComposeStack, load: Load) -> dict[str, int]:
    """Count the answers of each inference container, and the length of the log of each gateway."""
    by_worker = load.by_worker()
    counts = {
        container: sum(by_worker[worker] for worker in worker_ids(container))
        for container in stack.containers("inference")
    }
    for container in stack.containers("web"):
        counts[container] = len(docker("logs", container))
    return counts


def wait_for_all(stack: ComposeStack, load: Load) -> None:
    """Wait until every container has handled a new request."""
    before = answered(stack, load)
    assert len(before) == sum(stack.replicas.values())
    wait_for(
        lambda: all(now > before[container] for container, now in answered(stack, load).items()),
        "each container handles a request",
    )


def test_killing_workers_repeatedly_loses_nothing(
    scaled: ComposeStack, astronaut_file: bytes, figures: Figures, *, long: bool
) -> None:
    """SIGKILL to random workers in random containers, under open-loop load."""
    with Load(scaled.url, astronaut_file, CALLERS) as load_before:
        wait_for_all(scaled, load_before)
    with load_on(scaled.url, astronaut_file, long=long) as load:
        seconds = kill_workers_repeatedly(scaled, long=long)
    found = measured(load) | {"replaced": len(seconds), "replaced_after_s": round(max(seconds), 1)}
    figures("kill -9 of a worker, again and again", found, at_most={"lost": 0, "replaced_after_s": 15})
    assert lost(load) == {}


def test_scaling_up_and_down_under_load_loses_nothing(compose: ComposeStack, face_file: bytes) -> None:
    """Envoy finds new containers and stops using the removed ones."""
    with Load(compose.url, face_file, CALLERS) as load:
        load.wait_for_more(50)
        compose.up(inference=3, web=2)
        wait_for_all(compose, load)
        load.wait_for_more(100)
        compose.up(inference=1, web=1)
        load.wait_for_more(100)
    assert load.lost() == {}


@pytest.mark.parametrize("tier", ["inference", "web"])
def test_a_killed_container_costs_no_request(scaled: ComposeStack, face_file: bytes, tier: str) -> None:
    """When one of several containers is killed, another one answers its requests."""
    with Load(scaled.url, face_file, CALLERS) as load:
        wait_for_all(scaled, load)
        victim = scaled.containers(tier)[0]
        docker("kill", "--signal", "KILL", victim)
        load.wait_for_more(300)
        docker("start", victim)
        scaled.wait_until_healthy(victim)
        load.wait_for_more(100)
    assert load.lost() == {}


@pytest.mark.parametrize("tier", ["inference", "web"])
def test_a_rolling_restart_loses_nothing(
    scaled: ComposeStack, astronaut_file: bytes, figures: Figures, *, tier: str, long: bool
) -> None:
    """Containers restart one after the other, each when the previous one handles requests again."""
    restarts = 0
    with load_on(scaled.url, astronaut_file, long=long) as load:
        while restarts == 0 or (long and len(load.requests) < 5000):
            for container in scaled.containers(tier):
                with Load(scaled.url, astronaut_file, 1) as probe:  # which records who answers
                    wait_for_all(scaled, probe)
                docker("restart", container)
                scaled.wait_until_healthy(container)
                restarts += 1
    found = measured(load) | {"restarts": restarts}
    least = {"requests": 5000} if long else {}
    figures(f"restart of {tier}, one after the other", found, at_most={"lost": 0}, at_least=least)
    assert lost(load) == {}


def test_an_upgrade_loses_nothing(compose: ComposeStack, face_file: bytes) -> None:
    """With one container per tier, `make upgrade` starts the successors before it stops their predecessors."""
    before = {tier: compose.containers(tier) for tier in ("inference", "web")}
    with Load(compose.url, face_file, 4) as load:
        load.wait_for_more(20)
        subprocess.run(["make", "upgrade"], cwd=ROOT, env=compose.environment, check=True, capture_output=True)
        load.wait_for_more(50)
    assert load.lost() == {}
    for tier, old in before.items():
        (new,) = compose.containers(tier)
        assert new not in old
