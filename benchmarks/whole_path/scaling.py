"""Reckons from measured costs what a number of pictures a second needs."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

from inference.settings import MAX_WORKERS
from whole_path.figures import tiers
from whole_path.markdown import lay_out, paragraph
from whole_path.overhead import WHOLE

RATES = (100, 1000, 10_000)  # pictures a second


@dataclass(frozen=True)
class Pods:
    """What deploy/k8s/overlays/production says of a tier; tests/deploy/test_scaling.py holds the two together."""

    requested: float
    """CPUs of a pod."""
    busy: float
    """Of them, at most: the autoscaler's target. Envoy has none, and its limit is twice what it requests."""
    least: int
    most: int


PODS = {"inference": Pods(4, 0.7, 3, 20), "web": Pods(1, 0.7, 3, 12), "envoy": Pods(1, 1.0, 4, 4)}
SHOWN = {"inference": "inference", "web": "web", "envoy": "Envoy"}
# A picture comes in at the edge, goes to the gateway, comes back to Envoy and goes to a worker.
HOPS_THROUGH_ENVOY = 2
CHECKS_OF_A_POD = MAX_WORKERS + 1  # that each Envoy makes each second: the workers that there may be, and one to come


def needs(run: dict[str, Any]) -> str:
    """Give the tables of docs/scaling.md, with the costs that they were reckoned from."""
    found = run["overhead"]
    cost = {tier: tiers(found["busy"][WHOLE])[tier] for tier in PODS}
    size = run["side_by_side"]["bytes"][found["picture"]]
    costs = ", ".join(f"{SHOWN[tier]} {cost[tier]:.1f} ms" for tier in PODS)
    picture = f"CPU time of a picture (`{found['picture']}`, {size / 1000:.0f} kB, as the body): {costs}."
    return "\n\n".join([picture, carries(cost), pods_for(cost, size), at_its_most(cost)])


def carries(cost: dict[str, float]) -> str:
    """Say what one of each part carries when it does nothing else, the first to be full at the top."""
    ones = {"inference": "worker", "web": "process of the gateway", "envoy": "CPU of Envoy"}
    dearest_first = sorted(cost, key=cost.__getitem__, reverse=True)
    return lay_out(["one", "pictures/s"], [[ones[tier], f"{1000 / cost[tier]:,.0f}"] for tier in dearest_first])


def pods_for(cost: dict[str, float], size: int) -> str:
    """Say what each of the rates needs."""
    head = ["pictures/s", "CPUs busy: inference", "web", "Envoy", "pods of inference", "of web", "of Envoy"]
    head += ["health checks/s of each Envoy", "Gbit/s into all Envoys"]
    rows = []
    for rate in RATES:
        pods = {tier: pods_of(tier, rate * cost[tier] / 1000) for tier in PODS}
        row = [f"{rate:,}", *(f"{rate * cost[tier] / 1000:.1f}" for tier in PODS), *map(str, pods.values())]
        network = HOPS_THROUGH_ENVOY * rate * size * 8 / 1e9
        rows.append([*row, f"{CHECKS_OF_A_POD * pods['inference']:,}", f"{network:.1f}"])
    return lay_out(head, rows)


def pods_of(tier: str, cpus: float) -> int:
    """Count the pods of a tier that keep so many CPUs busy."""
    pods = PODS[tier]
    return max(pods.least, ceil(cpus / (pods.requested * pods.busy)))


def at_its_most(cost: dict[str, float]) -> str:
    """Say what the overlay carries with all the pods that it may have, and how many such stacks the top rate takes."""
    carried = {tier: 1000 * pods.most * pods.requested * pods.busy / cost[tier] for tier, pods in PODS.items()}
    first = min(carried, key=carried.__getitem__)
    stacks = ceil(RATES[-1] / carried[first])
    each = ", ".join(f"{pods.most} of {SHOWN[tier]} {carried[tier]:,.0f}" for tier, pods in PODS.items())
    checks = CHECKS_OF_A_POD * PODS["inference"].most
    return paragraph(f"""
        With all the pods that it may have, the overlay carries {carried[first]:,.0f} pictures/s ({each}). So
        {RATES[-1]:,} pictures/s take {stacks} such stacks, and in each an Envoy makes {checks:,} health checks/s.
    """)
