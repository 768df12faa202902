"""Secrets in the repository and known vulnerabilities of locked packages are detected."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tools.audit import UNKNOWN, VULNERABLE, ask, judge
from tools.keys import add_key

ROOT = Path(__file__).parents[2]

SOUND: dict[str, Any] = {"name": "flask", "version": "3.1.0", "vulns": []}
FAULTY = {"name": "pillow", "version": "1.0", "vulns": [{"id": "CVE-2099-1", "fix_versions": ["1.1"]}]}
SKIPPED = {"name": "grpcio", "skip_reason": "not found"}


def secrets(repository: Path) -> int:
    """Run `make secrets` in another repository, with the tools of this one."""
    command = ["make", "--no-print-directory", "-f", str(ROOT / "Makefile"), "-o", ".venv/ready", "secrets"]
    done = subprocess.run(
        [*command, f"BIN={Path(sys.executable).parent}"], cwd=repository, capture_output=True, check=False
    )
    return done.returncode


def git(repository: Path, *arguments: str) -> None:
    who = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.com")
    subprocess.run(["git", *who, *arguments], cwd=repository, capture_output=True, check=True)


def pem() -> str:
    kind = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Ed25519PrivateKey.generate().private_bytes(*kind).decode()


@pytest.mark.parametrize("kind", ["a private key", "an API key of facet's"])
def test_a_planted_secret_is_found(tmp_path: Path, kind: str) -> None:
    """Before it is committed, and afterwards even if it was removed again."""
    git(tmp_path, "init")
    (tmp_path / "harmless.md").write_text("A key is made with `make key NAME=alice`.\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--message=harmless")
    assert secrets(tmp_path) == 0
    planted = tmp_path / "notes.txt"
    planted.write_text(
        pem() if kind == "a private key" else add_key(tmp_path.parent / f"{tmp_path.name}.keys", "alice")
    )
    assert secrets(tmp_path) != 0
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--message=planted")
    planted.unlink()
    git(tmp_path, "commit", "--all", "--message=gone")
    assert secrets(tmp_path) != 0


@pytest.mark.parametrize("where_possible", [True, False])
def test_a_vulnerability_fails_the_audit(where_possible: bool) -> None:  # noqa: FBT001 - parametrised
    """It is reported with the version that fixes it, even if other packages could not be looked up."""
    assert judge([SOUND, FAULTY, SKIPPED], where_possible=where_possible) == (
        VULNERABLE,
        ["pillow 1.0: CVE-2099-1, fixed in 1.1"],
    )
    assert judge([SOUND, SOUND], where_possible=where_possible) == (0, ["no known vulnerabilities in 1 packages"])


@pytest.mark.parametrize("found", [[], [SOUND, SKIPPED]])
def test_a_package_that_could_not_be_looked_up_is_reported(found: list[dict[str, Any]]) -> None:
    """It fails the audit, unless --where-possible is given."""
    exit_code, report = judge(found, where_possible=False)
    assert (exit_code, report[0].partition(":")[0]) == (UNKNOWN, "NOT AUDITED")
    assert judge(found, where_possible=True) == (0, report)


def test_an_unreadable_lock_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a missing network, which --where-possible would accept."""
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/web.in").touch()
    (tmp_path / "requirements/web.txt").write_text("flask 3.1 = nonsense\n")
    monkeypatch.setattr("tools.audit.ROOT", tmp_path)
    with pytest.raises(SystemExit, match="pip-audit failed"):
        ask()
