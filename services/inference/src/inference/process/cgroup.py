"""The CPUs and the memory that this process may use, by its affinity mask and the limits of its cgroup (v1 or v2)."""

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
SELF = Path("/proc/self/cgroup")


def available_cpus(cgroup: Path = CGROUP, membership: Path = SELF) -> int:
    """Count whole CPUs, at least 1: a quota of half a CPU counts as one, of 2.5 as two."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    v1 = _ratio(_read(cgroup / "cpu/cpu.cfs_quota_us"), _read(cgroup / "cpu/cpu.cfs_period_us"))
    v2 = (_ratio(*(_read(group / "cpu.max").split() or ["", ""])) for group in _groups(cgroup, membership))
    return max(1, math.floor(min(affinity, v1, *v2)))


def available_memory(cgroup: Path = CGROUP, membership: Path = SELF) -> float:
    """Give the memory in bytes: the limit, or the machine's memory if that is less."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    v1 = _limit(_read(cgroup / "memory/memory.limit_in_bytes"))
    return min(machine, v1, *(_limit(_read(group / "memory.max")) for group in _groups(cgroup, membership)))


def _groups(cgroup: Path, membership: Path) -> list[Path]:
    """Give the version 2 group of this process and all groups above it, each of which limits it."""
    path = next((line[3:] for line in _read(membership).splitlines() if line.startswith("0::")), "/")
    own = cgroup / path.strip("/")
    return [own, *own.parents]


def _ratio(quota: str, period: str) -> float:
    """Divide a quota by its period, both in microseconds. "max", -1 and a missing file mean no limit."""
    granted, per = _limit(quota), _limit(period)
    return granted / per if math.isfinite(per) else math.inf


def _limit(text: str) -> float:
    """Parse a number. "max", a number not above 0 and a missing file mean no limit."""
    try:
        number = int(text)
    except ValueError:
        return math.inf
    return number if number > 0 else math.inf


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
