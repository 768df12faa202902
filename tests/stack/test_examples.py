"""What docs/ shows is what happens: every example is run against the stack."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import playwright
import pytest

from tests.stack.conftest import FrontDoor
from tests.stack.running import ROOT

PAGES = ("api.md", "tuning.md")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$(?:\n+^```text\n(.*?)^```$)?", re.DOTALL | re.MULTILINE)
RUN = {
    "python": [sys.executable, "-c"],
    # Playwright brings a Node.js for itself.
    "javascript": [str(Path(playwright.__file__).parent / "driver/node"), "--input-type=module", "--eval"],
    "console": ["bash", "-c"],
}


@dataclass(frozen=True)
class Example:
    """Something that is run, and what it prints; `...` stands for anything."""

    page: str
    language: str
    code: str
    shown: str

    def __str__(self) -> str:
        return f"{self.page}: {self.code.splitlines()[0]}"


def examples() -> list[Example]:
    """Collect them: a console has a command in each line that begins with `$ `, and below it what that prints."""
    found = []
    for page in PAGES:
        for language, code, shown in BLOCK.findall((ROOT / "docs" / page).read_text()):
            if language == "console":
                for command, printed in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", code, re.MULTILINE):
                    found.append(Example(page, language, command, printed))
            else:
                found.append(Example(page, language, code, shown))
    return found


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder that has what a clone has and may be written to."""
    for name in ("README.md", "tests", "client", "protos", "services"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.mark.parametrize("example", examples(), ids=str)
def test_an_example_prints_what_is_shown(stack: FrontDoor, clone: Path, example: Example) -> None:
    """And ends well."""
    done = subprocess.run(
        [*RUN[example.language], example.code.replace("localhost:8080", stack.edge)],
        cwd=clone,
        env=os.environ | {"FACET_URL": stack.url, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pattern = ".*".join(map(re.escape, example.shown.strip().split("...")))
    assert re.fullmatch(pattern, done.stdout.strip(), re.DOTALL), done.stdout


def test_every_block_is_one_that_is_run() -> None:
    """There is no language that would be left out."""
    for page in PAGES:
        languages = set(re.findall(r"^```(\w+)$", (ROOT / "docs" / page).read_text(), re.MULTILINE))
        assert languages <= {*RUN, "text"}
