"""The README's commands work and give the answers that it shows."""

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stack.compose import ComposeStack, docker
from tests.stack.conftest import FrontDoor
from tests.stack.running import ROOT, free_base_port

README = (ROOT / "README.md").read_text()
# Commands that another test runs.
ELSEWHERE = {"make serve": "test_serve.py", "pip install ./client": "test_command.py"}
TIMES_AND_PLACES = ("milliseconds", "worker", "engine")  # what differs between runs, workers and tested engines


def blocks(language: str) -> list[str]:
    """Return the README's code blocks in a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[str]:
    """Return the commands of all console blocks."""
    return [line[2:] for block in blocks("console") for line in block.splitlines() if line.startswith("$ ")]


def command(start: str) -> str:
    """Return the only command that begins like this."""
    (found,) = [line for line in commands() if line.startswith(start)]
    return found


def ask(front_door: FrontDoor) -> dict[str, Any]:
    """Run the README's curl command against a stack."""
    here = command("curl").replace("curl", "curl --silent --show-error").replace("localhost:8080", front_door.edge)
    done = subprocess.run(["bash", "-c", here], cwd=ROOT, capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def without_times(answer: dict[str, Any]) -> dict[str, Any]:
    """Remove what differs from run to run."""
    kept = {key: value for key, value in answer["metaData"].items() if key not in TIMES_AND_PLACES}
    return answer | {"metaData": kept}


def close(one: Any, other: Any) -> bool:
    """Compare two JSON values; the last digits of numbers depend on the processor."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(close(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(close, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-4)
    return bool(one == other)


def test_the_call_gives_the_answer_that_is_shown(stack: FrontDoor) -> None:
    """All fields are there, with these values; times, worker and engine may differ."""
    (block,) = blocks("json")
    shown, answer = json.loads(block), ask(stack)
    assert close(without_times(answer), without_times(shown))
    if answer["metaData"]["engine"] == shown["metaData"]["engine"]:  # FACET_ENGINE may be set for all tests
        assert answer["metaData"]["milliseconds"].keys() == shown["metaData"]["milliseconds"].keys()
    assert re.fullmatch(r"[0-9a-f]{8}", shown["metaData"]["worker"])


def test_the_client_writes_a_row_per_face(stack: FrontDoor, tmp_path: Path) -> None:
    """The command after its installation, which test_command.py tests."""
    here = command("facet").replace("tests/images", f"{ROOT}/tests/images")
    environment = os.environ | {"FACET_URL": stack.url, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-c", here], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "faces.csv").read_text().count("\n") == 2


@pytest.fixture
def project(tmp_path: Path) -> Iterator[ComposeStack]:
    """An empty compose project with its own image tag; whatever a test starts and builds in it is removed."""
    env_file = tmp_path / "settings.env"
    env_file.write_text("FACET_WORKERS=1\n")
    port = free_base_port()
    empty = ComposeStack(f"facet-readme-{port}", port, {"FACET_TAG": "readme"}, env_file)
    try:
        yield empty
    finally:
        empty.compose("down", "--volumes", "--remove-orphans", "--timeout", "5")
        if images := docker("images", "--quiet", "--filter", "reference=facet-*:readme").split():
            docker("rmi", "--force", *images)


@pytest.mark.usefixtures("compose")  # which keeps it to --compose
def test_make_up_starts_a_stack_that_answers_and_make_down_removes_it(project: ComposeStack) -> None:
    """The quick start with containers, from the build on."""
    subprocess.run(command("make up").split(), cwd=ROOT, env=project.environment, check=True)
    assert len(ask(project)["results"]) == 1
    assert "`make down`" in README
    subprocess.run(["make", "down"], cwd=ROOT, env=project.environment, check=True)
    assert project.compose("ps", "--all", "--quiet") == ""


def test_every_command_is_run_by_a_test() -> None:
    """By one in this file, or by one that is named."""
    here = [command(start) for start in ("curl", "facet", "make up")]
    elsewhere = [line for line in commands() if line in ELSEWHERE]
    assert sorted(here + elsewhere) == sorted(commands())
    assert all((ROOT / "tests/stack" / file).exists() for file in ELSEWHERE.values())


def test_every_make_target_that_is_named_exists() -> None:
    """In the README, in CONTRIBUTING and in docs/."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    text = "".join(page.read_text() for page in pages)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|\$ )make ([a-z-]+)", text))
    assert {"serve", "test", "check"} <= named <= targets
