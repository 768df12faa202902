"""Asks for known vulnerabilities of all that is locked: `make audit`.

pip-audit asks the package index, which not every network reaches and not every mirror knows the answer to. What could
not be looked up is said, and is a failure, too, unless --where-possible is given.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
VULNERABLE, UNKNOWN = 1, 2

NOBODY_THERE = "Could not connect to"  # as pip-audit says it

Dependency = dict[str, Any]  # as pip-audit reports it: name, and either version and vulns, or skip_reason


class CannotAudit(Exception):
    """Pip-audit failed for another reason than the network; the text is its own."""


def ask() -> list[Dependency]:
    """Have pip-audit look every lock up; it gives nothing when there is nobody to ask. Raises CannotAudit."""
    command = [sys.executable, "-m", "pip_audit", "--require-hashes", "--disable-pip", "--format=json"]
    command += [f"--requirement={lock}" for lock in sorted((ROOT / "requirements").glob("*.txt")) if _is_lock(lock)]
    done = subprocess.run([*command, "--progress-spinner=off"], capture_output=True, text=True, check=False)
    try:
        found: list[Dependency] = json.loads(done.stdout)["dependencies"]
    except ValueError:
        if NOBODY_THERE in done.stderr:
            return []
        raise CannotAudit(done.stderr) from None
    return found


def _is_lock(path: Path) -> bool:
    return path.with_suffix(".in").exists()


def judge(dependencies: Sequence[Dependency], *, where_possible: bool) -> tuple[int, list[str]]:
    """Give the exit code for what was found, and what to say about it."""
    said = sorted({_line(found, fault) for found in dependencies for fault in found.get("vulns", [])})
    unknown = {found["name"] for found in dependencies if "skip_reason" in found}
    names = {found["name"] for found in dependencies}
    if said:
        return VULNERABLE, said
    if unknown or not names:
        what = f"{len(unknown)} of {len(names)} packages" if names else "the packages"
        said = [f"NOT AUDITED: {what} could not be looked up; run this where the package index is reached"]
        return 0 if where_possible else UNKNOWN, said
    return 0, [f"no vulnerability is known of {len(names)} packages"]


def _line(found: Dependency, fault: dict[str, Any]) -> str:
    mended = ", ".join(fault["fix_versions"]) or "no version yet"
    return f"{found['name']} {found['version']}: {fault['id']}, mended in {mended}"


def main() -> int:
    """Ask, and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--where-possible", action="store_true", help="what cannot be looked up is no failure")
    where_possible = parser.parse_args().where_possible
    try:
        exit_code, said = judge(ask(), where_possible=where_possible)
    except CannotAudit as error:
        print(f"error: pip-audit failed: {error}", file=sys.stderr)
        return UNKNOWN
    print("\n".join(said))
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
