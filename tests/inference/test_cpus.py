"""The CPUs that a cgroup grants."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from inference.cpus import available_cpus

HERE = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("max 100000", HERE), ("100000 100000", 1), ("50000 100000", 1), ("190000 100000", 1), ("9900000 100000", HERE)],
)
def test_the_quota_of_cgroup_v2_counts(tmp_path: Path, limit: str, expected: int) -> None:
    """Half a CPU is one worker, nearly two are one, more than there are is as many as there are."""
    (tmp_path / "pod/container").mkdir(parents=True)
    (tmp_path / "pod/container/cpu.max").write_text(limit)
    (tmp_path / "membership").write_text("0::/pod/container\n")
    assert available_cpus(tmp_path, tmp_path / "membership") == expected


def test_the_quota_of_a_group_above_counts(tmp_path: Path) -> None:
    """A pod's limit holds for its containers."""
    (tmp_path / "pod/container").mkdir(parents=True)
    (tmp_path / "pod/container/cpu.max").write_text("max 100000")
    (tmp_path / "pod/cpu.max").write_text("100000 100000")
    (tmp_path / "membership").write_text("0::/pod/container\n")
    assert available_cpus(tmp_path, tmp_path / "membership") == 1


def test_the_quota_of_cgroup_v1_counts(tmp_path: Path) -> None:
    """The older layout has two files."""
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("100000\n")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert available_cpus(tmp_path, tmp_path / "none") == 1


def test_without_a_cgroup_all_cpus_count(tmp_path: Path) -> None:
    """No file, no limit."""
    assert available_cpus(tmp_path, tmp_path / "none") == HERE
