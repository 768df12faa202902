"""The CPUs and the memory that a cgroup grants."""

import os
from pathlib import Path

import psutil
import pytest
from inference import settings
from inference.process.cgroup import available_cpus, available_memory

HERE = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("max 100000", HERE), ("100000 100000", 1), ("50000 100000", 1), ("190000 100000", 1), ("9900000 100000", HERE)],
)
def test_the_quota_of_cgroup_v2_applies(tmp_path: Path, limit: str, expected: int) -> None:
    """Half a CPU counts as one, 1.9 CPUs as one, and a quota above the number of CPUs as that number."""
    (tmp_path / "pod/container").mkdir(parents=True)
    (tmp_path / "pod/container/cpu.max").write_text(limit)
    (tmp_path / "membership").write_text("0::/pod/container\n")
    assert available_cpus(tmp_path, tmp_path / "membership") == expected


def test_the_quota_of_a_parent_group_applies(tmp_path: Path) -> None:
    """The limit of a pod applies to its containers."""
    (tmp_path / "pod/container").mkdir(parents=True)
    (tmp_path / "pod/container/cpu.max").write_text("max 100000")
    (tmp_path / "pod/cpu.max").write_text("100000 100000")
    (tmp_path / "membership").write_text("0::/pod/container\n")
    assert available_cpus(tmp_path, tmp_path / "membership") == 1


def test_the_quota_of_cgroup_v1_applies(tmp_path: Path) -> None:
    """Version 1 has two files."""
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("100000\n")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert available_cpus(tmp_path, tmp_path / "none") == 1


def test_without_a_cgroup_all_cpus_are_available(tmp_path: Path) -> None:
    """A missing file means no limit."""
    assert available_cpus(tmp_path, tmp_path / "none") == HERE


def test_the_least_memory_limit_applies(tmp_path: Path) -> None:
    """The limits of the group and of its parents are compared."""
    (tmp_path / "pod/container").mkdir(parents=True)
    (tmp_path / "pod/container/memory.max").write_text("max\n")
    (tmp_path / "pod/memory.max").write_text("1073741824\n")
    (tmp_path / "membership").write_text("0::/pod/container\n")
    assert available_memory(tmp_path, tmp_path / "membership") == 2**30


def test_the_memory_limit_of_cgroup_v1_applies(tmp_path: Path) -> None:
    """Without a file, all memory of the machine is available."""
    machine = available_memory(tmp_path, tmp_path / "none")
    assert machine == psutil.virtual_memory().total
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory/memory.limit_in_bytes").write_text("536870912\n")
    assert available_memory(tmp_path, tmp_path / "none") == 2**29


@pytest.mark.parametrize(("limit", "workers"), [(100 * 2**20, 1), (2**30, 1), (2**32, 2), (float("inf"), 9)])
def test_a_memory_limit_bounds_the_number_of_workers(
    monkeypatch: pytest.MonkeyPatch, limit: float, workers: int
) -> None:
    """A small container on a large machine must not start more workers than its memory allows."""
    monkeypatch.setattr(settings, "available_cpus", lambda: 9)
    monkeypatch.setattr(settings, "available_memory", lambda: limit)
    assert settings.Settings().worker_count == workers
    assert settings.Settings(workers=7).worker_count == 7
