"""Reckons from measured costs what a number of pictures a second needs."""

from __future__ import annotations

from math import ceil
from typing import Any

from whole_path.figures import tiers

RATES = (100, 1000, 10_000)  # pictures a second
BUSY = 0.7  # of a CPU, at most: beyond it requests wait for each other
# deploy/k8s: what a pod of each tier may take at most, and how many there are at least.
POD_CPUS = {"inference": 4, "web": 2, "envoy": 2}
AT_LEAST = 2
# A picture comes in at the edge, goes to the gateway, comes back to Envoy and goes to a worker.
HOPS_THROUGH_ENVOY = 2


def needs(run: dict[str, Any]) -> str:
    """Give the table of docs/scaling.md, with the costs that it was reckoned from."""
    found = run["overhead"]
    cost = tiers(found["busy"]["the whole path"])
    size = run["side_by_side"]["bytes"][found["picture"]]
    head = ["pictures/s", "CPUs busy: inference", "web", "Envoy", "workers", "pods of inference", "of web", "of Envoy"]
    rows = [[*head, "Gbit/s into all Envoys"], ["---"] * (len(head) + 1)]
    for rate in RATES:
        busy = {tier: rate * cost[tier] / 1000 for tier in POD_CPUS}
        pods = {tier: str(max(AT_LEAST, ceil(busy[tier] / BUSY / cpus))) for tier, cpus in POD_CPUS.items()}
        network = HOPS_THROUGH_ENVOY * rate * size * 8 / 1e9
        row = [f"{rate:,}", *(f"{busy[tier]:.1f}" for tier in POD_CPUS), str(ceil(busy["inference"] / BUSY))]
        rows.append([*row, *pods.values(), f"{network:.1f}"])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    costs = ", ".join(f"{tier} {cost[tier]:.1f} ms" for tier in POD_CPUS)
    return f"CPU time of a picture (`{found['picture']}`, {size / 1000:.0f} kB, as the body): {costs}.\n\n{table}"
