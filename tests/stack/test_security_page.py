"""The commands of docs/security.md, one after the other: from a clone to an answer with API keys and with TLS."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.stack.running import ROOT, free_base_port, wait_for

PAGE = (ROOT / "docs/security.md").read_text()
CLONED = (
    "Makefile",
    "client",
    "deploy",
    "envoy",
    "protos",
    "pyproject.toml",
    "requirements",
    "services",
    "telemetry",
    "tests",
    "tools",
)


def commands() -> list[str]:
    """Collect the commands that need no cluster."""
    blocks = re.findall(r"^```console\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    found = [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    return [command for command in found if "kubectl" not in command]


@contextmanager
def served(command: str, base: int, clone: Path) -> Iterator[None]:
    """Run a `make serve` of the page during the block."""
    output = clone / "serve.txt"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [*command.split(), f"PORT={base + 24}", f"BASE_PORT={base}", "WORKERS=1"],
            cwd=clone,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            process_group=0,
        )
    try:
        wait_for(lambda: "facet answers at" in output.read_text() or process.poll() is not None, "it answers")
        assert process.poll() is None, output.read_text()
        yield
    finally:
        with suppress(ProcessLookupError):  # it has ended, and the block has failed
            os.killpg(process.pid, signal.SIGINT)
        process.wait(60)


def test_the_commands_of_the_page_lead_to_an_answer(tmp_path: Path) -> None:
    """In a clone with new keys and certificates; a request without the key or without the authority fails."""
    subprocess.run(["make", ".serve/venv/ready"], cwd=ROOT, check=True)
    (tmp_path / ".serve").mkdir()
    for name in (*CLONED, ".serve/venv"):
        (tmp_path / name).symlink_to(ROOT / name)
    base = free_base_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"

    def run(command: str) -> subprocess.CompletedProcess[str]:
        here = command.replace("localhost:8080", f"localhost:{base + 24}").replace("curl", "curl --silent")
        return subprocess.run(
            ["bash", "-c", here], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    key, with_keys, by_curl, by_command, certificates, with_tls, over_tls = commands()
    too_early = run(with_keys)
    assert "error: API keys are on, but there is no .secrets/keys/keys.yaml" in too_early.stderr
    done = run(key)
    assert done.returncode == 0, done.stderr
    environment["FACET_API_KEY"] = done.stdout.strip()
    environment["FACET_URL"] = f"http://localhost:{base + 24}"
    with served(with_keys, base, tmp_path):
        assert len(json.loads(run(by_curl).stdout)["results"]) == 1
        assert json.loads(run(by_curl.replace("$FACET_API_KEY", "sesame")).stdout)["code"] == "UNAUTHENTICATED"
        assert run(by_command.replace("FACET_API_KEY=... ", "")).returncode == 0
    too_early = run(with_tls)
    assert "error: TLS is on, but there is no .secrets/tls/edge/tls.crt" in too_early.stderr
    assert run(certificates).returncode == 0
    with served(with_tls, base, tmp_path):
        assert len(json.loads(run(over_tls).stdout)["results"]) == 1
        assert run(over_tls.replace("--cacert .secrets/tls/authority/tls.crt ", "")).returncode == 60  # not trusted
