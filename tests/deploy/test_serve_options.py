"""An option whose files are missing or wrong ends `make serve` and `make up` at once, with one sentence."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from tests.deploy.manifests import ROOT
from tools.certificates import make_certificate
from tools.keys import add_key
from tools.serve.options import check_options
from tools.serve.plan import CannotServe, Plan
from tools.serve.validation import check_extensions

RATE_LIMIT = (ROOT / "envoy/rate-limit/rate-limit.yaml").read_text()


def error_of(command: list[str], folder: Path, **settings: str) -> str:
    """Run a command that must fail with one line, and return it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")} | settings
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert done.stdout == ""
    (line,) = (line for line in done.stderr.splitlines() if not line.startswith("make: ***"))
    assert line.startswith("error: ")
    return line


def refuse(plan: Plan) -> str:
    """Return why a plan is refused."""
    try:
        check_options(plan)
        check_extensions(plan)
    except CannotServe as error:
        return str(error)
    pytest.fail("it is accepted")


def test_make_serve_ends_with_one_line(tmp_path: Path) -> None:
    """Before anything is started."""
    command = [sys.executable, "-m", "tools.serve", f"--keys={tmp_path}", f"--logs={tmp_path / 'logs'}"]
    assert f"there is no {tmp_path}/keys.yaml" in error_of(command, ROOT)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "advice"),
    [("keys", "`make key NAME=alice`"), ("rate_limit", "envoy/rate-limit"), ("edge_tls", "`make certificates`")],
)
def test_a_missing_file_is_named_with_what_to_do(tmp_path: Path, option: str, advice: str) -> None:
    """The folder may be missing, empty, or a file."""
    (tmp_path / "file").touch()
    for folder in (tmp_path / "missing", tmp_path, tmp_path / "file"):
        error = refuse(replace(Plan(), **{option: folder}))  # type: ignore[arg-type]
        assert f"there is no {folder}/" in error
        assert advice in error


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "keys.yaml").mkdir()
    assert f"{tmp_path}/keys.yaml cannot be read: Is a directory" in refuse(Plan(keys=tmp_path))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (RATE_LIMIT.replace("max_tokens: 100,", "max_tokens: many,"), "max_tokens: uint32: invalid number: 'many'"),
        (RATE_LIMIT.replace("max_tokens: 100,", "tokens: 100,"), "no such field: 'tokens'"),
        (RATE_LIMIT.replace("token_bucket:", "token_bucket", 1), "is not YAML"),
        ("resources: []", "must hold one resource"),
        ("", "must hold one resource"),
    ],
)
def test_a_file_that_envoy_would_reject_is_named_with_the_reason(tmp_path: Path, content: str, reason: str) -> None:
    """Envoy itself would start, and then serve nothing."""
    (tmp_path / "rate-limit.yaml").write_text(content)
    error = refuse(Plan(rate_limit=tmp_path))
    assert f"{tmp_path}/rate-limit.yaml" in error
    assert reason in error


def test_a_certificate_needs_its_own_key(tmp_path: Path) -> None:
    """As PEM: another key, no PEM and a key with a password are refused, and nobody is asked for the password."""
    make_certificate(tmp_path, "localhost")
    folder = tmp_path / "edge"
    private = load_pem_private_key((folder / "tls.key").read_bytes(), None)
    encrypted = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    another = trustme.CA().issue_cert("localhost").private_key_pem.bytes()
    for key in (another, b"", b"no PEM", encrypted):
        (folder / "tls.key").write_bytes(key)
        error = refuse(Plan(edge_tls=folder))
        assert "must be a certificate and its private key, as PEM without a password" in error


def test_an_engine_that_is_not_installed_is_named_with_its_command() -> None:
    """`make serve` installs openvino alone; here another engine is hidden."""
    hide = "import sys, runpy; sys.modules['tensorflow'] = None; runpy.run_module('tools.serve', run_name='__main__')"
    error = error_of([sys.executable, "-c", hide], ROOT, FACET_ENGINE="tensorflow")
    assert "the engine tensorflow is not installed here" in error
    command = error.partition("`")[2].partition("`")[0].split()
    assert command[1:4] == ["pip", "install", "--no-deps"]
    assert (ROOT / command[0]).exists()
    assert (ROOT / command[-1]).exists()


def test_containers_need_files_that_everybody_can_read(tmp_path: Path) -> None:
    """Envoy runs as another user there; on this machine it does not."""
    file = tmp_path / "keys/keys.yaml"
    add_key(file, "alice")
    plan = Plan(keys=file.parent)
    check_options(plan, containers=True)
    for path, closed, open_ in ((file, 0o600, 0o644), (file.parent, 0o700, 0o755)):
        path.chmod(closed)
        check_options(plan)
        with pytest.raises(CannotServe, match=r"Envoy's user cannot read .*; run `chmod -R o\+rX"):
            check_options(plan, containers=True)
        path.chmod(open_)


def test_make_up_without_options_needs_no_python(tmp_path: Path) -> None:
    """Make and a container engine are enough."""
    for name in ("Makefile", "deploy", "envoy", "tools"):
        (tmp_path / name).symlink_to(ROOT / name)
    options = [f"{option}=" for option in ("KEYS", "RATE_LIMIT", "TLS", "TRACES")]  # whatever this shell has
    command = ["make", "--dry-run", "up", "PYTHON=absent", *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "docker compose" in done.stdout
    assert "absent" not in done.stdout


@pytest.mark.parametrize(("option", "advice"), [("KEYS", "make key"), ("TLS", "make certificates")])
def test_make_up_checks_before_it_builds(tmp_path: Path, option: str, advice: str) -> None:
    """No container engine is asked: there is none at this address."""
    for name in ("Makefile", "deploy", "envoy", "tools"):
        (tmp_path / name).symlink_to(ROOT / name)
    command = ["make", "up", f"{option}=on", f"PYTHON={sys.executable}"]
    assert advice in error_of(command, tmp_path, DOCKER_HOST=f"unix://{tmp_path}/none.sock")
