"""What the README shows is what happens: its commands are run, its answers compared."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from tests.stack.conftest import FrontDoor
from tests.stack.running import ROOT

README = (ROOT / "README.md").read_text()


ANNOTATE = "curl -F image=@tests/images/astronaut.webp -F style=blur localhost:8080/annotate --output hidden.jpg"


def blocks(language: str) -> list[str]:
    """Give the README's code blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def run(command: str, stack: FrontDoor) -> Any:
    """Run a command of the README against the test's stack and read the JSON that it prints."""
    here = command.replace("curl", "curl --silent --show-error").replace("localhost:8080", stack.edge)
    done = subprocess.run(["bash", "-c", here], cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def without_times(answer: dict[str, Any]) -> dict[str, Any]:
    """Leave out what differs from run to run: times, which worker it was, and its engine."""
    did = {key: value for key, value in answer["metaData"].items() if key not in ("milliseconds", "worker", "engine")}
    return answer | {"metaData": did}


def close(one: Any, other: Any) -> bool:
    """Compare two JSON values; numbers may differ in the last digits, which depend on the processor."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(close(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(close, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-4)
    return bool(one == other)


def test_every_curl_gives_the_answer_that_is_shown(stack: FrontDoor) -> None:
    """All of them ask about the same picture."""
    commands = [line[2:] for block in blocks("console") for line in block.splitlines() if "curl" in line]
    commands.remove(ANNOTATE)
    assert len(commands) == 4
    shown = json.loads(blocks("json")[0])
    for command in commands:
        answer = run(command, stack)
        assert close(without_times(answer), without_times(shown)), command
        if answer["metaData"]["engine"] == shown["metaData"]["engine"]:  # FACET_ENGINE may be set for all tests
            assert set(answer["metaData"]["milliseconds"]) == set(shown["metaData"]["milliseconds"])


def test_the_drawn_picture_is_written(stack: FrontDoor, tmp_path: Path) -> None:
    """To the file that the command names."""
    command = ANNOTATE.replace("tests/", f"{ROOT}/tests/").replace("localhost:8080", stack.edge)
    subprocess.run(["bash", "-c", f"{command} --silent --fail"], cwd=tmp_path, check=True)
    with Image.open(tmp_path / "hidden.jpg") as hidden:
        assert hidden.size == (512, 512)


def test_the_error_that_is_shown_is_the_one_that_comes(stack: FrontDoor) -> None:
    """A GIF."""
    shown = json.loads(blocks("json")[1])
    answer = run("printf GIF89a | curl -H 'Content-Type: image/gif' --data-binary @- localhost:8080/predict", stack)
    assert answer | {"requestId": ""} == shown | {"requestId": ""}


def test_the_python_client_runs(stack: FrontDoor) -> None:
    """As it stands there."""
    (code,) = blocks("python")
    command = [sys.executable, "-c", code.replace("localhost:8080", stack.edge)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "0.9991 at (182, 64)\n"


def test_the_command_of_the_client_runs(stack: FrontDoor, tmp_path: Path) -> None:
    """The one behind its installation, which test_command.py tries."""
    (block,) = [block for block in blocks("console") if "pip install ./client" in block]
    command = block.splitlines()[1].removeprefix("$ ").replace("tests/images", f"{ROOT}/tests/images")
    environment = os.environ | {"FACET_URL": stack.url, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "faces.csv").read_text().count("\n") == 2


def test_every_make_target_that_is_named_exists() -> None:
    """In the README and in CONTRIBUTING."""
    text = README + (ROOT / "CONTRIBUTING.md").read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|\$ )make ([a-z-]+)", text))
    assert {"serve", "test", "check"} <= named <= targets
