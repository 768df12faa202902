"""How many CPUs this process may use: the least of affinity mask and cgroup quota."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
SELF = Path("/proc/self/cgroup")


def available_cpus(cgroup: Path = CGROUP, membership: Path = SELF) -> int:
    """Count whole CPUs, at least 1. A quota of half a CPU counts as one, of 2.5 as two."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min(affinity, _quota(cgroup, membership))))


def _quota(cgroup: Path, membership: Path) -> float:
    """CPUs that the cgroup and those above it grant (v2: cpu.max; v1: cpu.cfs_*), infinity where nothing limits."""
    v1 = _ratio(_read(cgroup / "cpu/cpu.cfs_quota_us"), _read(cgroup / "cpu/cpu.cfs_period_us"))
    path = next((line[3:] for line in _read(membership).splitlines() if line.startswith("0::")), "/")
    own = cgroup / path.strip("/")
    v2 = (_ratio(*(_read(folder / "cpu.max").split() or ["", ""])) for folder in (own, *own.parents))
    return min(v1, *v2)


def _ratio(quota: str, period: str) -> float:
    """Divide microseconds; "max", -1 and a missing file mean no limit."""
    try:
        granted, per = int(quota), int(period)
    except ValueError:
        return math.inf
    return granted / per if granted > 0 and per > 0 else math.inf


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
