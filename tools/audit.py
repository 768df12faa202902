"""Looks up known vulnerabilities of all locked packages: `make audit`.

pip-audit asks the package index, which not every network reaches and not every mirror answers. Packages that cannot be
looked up are reported and fail the audit, unless --where-possible is given.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
VULNERABLE, UNKNOWN = 1, 2

UNREACHABLE = "Could not connect to"  # in the output of pip-audit

Dependency = dict[str, Any]  # as pip-audit reports it: name, and either version and vulns, or skip_reason


def ask() -> list[Dependency]:
    """Look up the packages of every lock; none if the index cannot be reached."""
    command = [sys.executable, "-m", "pip_audit", "--require-hashes", "--disable-pip", "--format=json"]
    locks = [file.with_suffix(".txt") for file in sorted((ROOT / "requirements").glob("*.in"))]
    command += ["--progress-spinner=off", *(f"--requirement={lock}" for lock in locks)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        found: list[Dependency] = json.loads(done.stdout)["dependencies"]
    except ValueError:
        if UNREACHABLE in done.stderr:
            return []
        sys.exit(f"error: pip-audit failed: {done.stderr}")
    return found


def judge(dependencies: Sequence[Dependency], *, where_possible: bool) -> tuple[int, list[str]]:
    """Return the exit code and the report."""
    report = sorted({_line(found, fault) for found in dependencies for fault in found.get("vulns", [])})
    unknown = {found["name"] for found in dependencies if "skip_reason" in found}
    names = {found["name"] for found in dependencies}
    if report:
        return VULNERABLE, report
    if unknown or not names:
        what = f"{len(unknown)} of {len(names)} packages" if names else "the packages"
        report = [f"NOT AUDITED: {what} could not be looked up; run this where the package index can be reached"]
        return 0 if where_possible else UNKNOWN, report
    return 0, [f"no known vulnerabilities in {len(names)} packages"]


def _line(found: Dependency, fault: dict[str, Any]) -> str:
    fixed = ", ".join(fault["fix_versions"]) or "no version yet"
    return f"{found['name']} {found['version']}: {fault['id']}, fixed in {fixed}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--where-possible", action="store_true", help="succeed even if packages cannot be looked up")
    exit_code, report = judge(ask(), where_possible=parser.parse_args().where_possible)
    print("\n".join(report))
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
