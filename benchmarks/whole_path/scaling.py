"""Estimates from measured costs what a rate of images needs."""

from dataclasses import dataclass
from math import ceil
from typing import Any

from inference.settings import MAX_WORKERS
from whole_path.figures import tiers
from whole_path.markdown import lay_out, paragraph
from whole_path.overhead import WHOLE

RATES = (100, 1000, 10_000)  # images per second


@dataclass(frozen=True)
class Pods:
    """A tier in deploy/k8s/overlays/production; tests/deploy/test_scaling.py compares the two."""

    requested: float
    """CPUs that a pod requests."""
    busy: float
    """Share of them in use, at most: the autoscaler's target. Envoy has none, and its limit is twice its request."""
    least: int
    most: int


PODS = {"inference": Pods(4, 0.7, 3, 20), "web": Pods(1, 0.7, 3, 12), "envoy": Pods(1, 1.0, 4, 4)}
SHOWN = {"inference": "inference", "web": "web", "envoy": "Envoy"}
# An image passes Envoy at the edge, on its way to the gateway, and again on its way to a worker.
HOPS_THROUGH_ENVOY = 2
CHECKS_OF_A_POD = MAX_WORKERS + 1  # per second and Envoy: the maximum number of workers, and one successor


def needs(run: dict[str, Any]) -> str:
    """Return the tables of docs/scaling.md, with the costs that they are based on."""
    found = run["overhead"]
    cost = {tier: tiers(found["busy"][WHOLE])[tier] for tier in PODS}
    size = run["side_by_side"]["bytes"][found["image"]]
    costs = ", ".join(f"{SHOWN[tier]} {cost[tier]:.1f} ms" for tier in PODS)
    per_image = f"CPU time per image (`{found['image']}`, {size / 1000:.0f} kB, as the body): {costs}."
    return "\n\n".join([per_image, carries(cost), pods_for(cost, size), at_its_most(cost)])


def carries(cost: dict[str, float]) -> str:
    """Return the capacity of one unit of each part; the one that fills first is at the top."""
    ones = {"inference": "worker", "web": "gateway process", "envoy": "Envoy CPU"}
    dearest_first = sorted(cost, key=cost.__getitem__, reverse=True)
    return lay_out(["unit", "images/s"], [[ones[tier], f"{1000 / cost[tier]:,.0f}"] for tier in dearest_first])


def pods_for(cost: dict[str, float], size: int) -> str:
    """Return what each rate needs."""
    head = ["images/s", "CPUs in use: inference", "web", "Envoy", "pods: inference", "web", "Envoy"]
    head += ["health checks/s per Envoy", "Gbit/s into all Envoys"]
    rows = []
    for rate in RATES:
        pods = {tier: pods_of(tier, rate * cost[tier] / 1000) for tier in PODS}
        row = [f"{rate:,}", *(f"{rate * cost[tier] / 1000:.1f}" for tier in PODS), *map(str, pods.values())]
        network = HOPS_THROUGH_ENVOY * rate * size * 8 / 1e9
        rows.append([*row, f"{CHECKS_OF_A_POD * pods['inference']:,}", f"{network:.1f}"])
    return lay_out(head, rows)


def pods_of(tier: str, cpus: float) -> int:
    """Return the number of pods of a tier that this many CPUs of work need."""
    pods = PODS[tier]
    return max(pods.least, ceil(cpus / (pods.requested * pods.busy)))


def at_its_most(cost: dict[str, float]) -> str:
    """Return the capacity of the overlay at its maximum, and how many such stacks the highest rate needs."""
    carried = {tier: 1000 * pods.most * pods.requested * pods.busy / cost[tier] for tier, pods in PODS.items()}
    first = min(carried, key=carried.__getitem__)
    stacks = ceil(RATES[-1] / carried[first])
    each = ", ".join(f"{pods.most} of {SHOWN[tier]} {carried[tier]:,.0f}" for tier, pods in PODS.items())
    checks = CHECKS_OF_A_POD * PODS["inference"].most
    return paragraph(f"""
        At its maximum number of pods, the overlay handles {carried[first]:,.0f} images/s ({each}). {RATES[-1]:,}
        images/s need {stacks} such stacks, and each Envoy then makes {checks:,} health checks/s.
    """)
