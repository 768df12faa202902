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

PAGES = sorted(path.name for path in (ROOT / "docs").glob("*.md"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$(?:\n+^```text\n(.*?)^```$)?", re.DOTALL | re.MULTILINE)
RUN = {
    "python": [sys.executable, "-c"],
    # Playwright brings a Node.js for itself.
    "javascript": [str(Path(playwright.__file__).parent / "driver/node"), "--input-type=module", "--eval"],
    "console": ["bash", "-c"],
}
# What is not run here, and where it is tested instead.
ELSEWHERE = {
    "pip install ./client": "tests/stack/test_command.py installs it",
    "facet_gateway": "tests/stack/test_traces_compose.py has a collector in these networks",
    "facet_workers": "likewise",
    "make up TRACES=on": "likewise",
    "make up": "tests/stack/test_readme.py runs it",
    "OTEL_EXPORTER_OTLP_ENDPOINT=": "tests/stack/test_traces.py starts the stack so",
    "make key": "tests/stack/test_security_page.py runs the commands of that page one after the other",
    "make certificates": "likewise",
    "make serve": "likewise",
    "FACET_API_KEY": "likewise",
    "--cacert": "likewise",
    "make images": "make test-stack builds them",
    "kind ": "it takes a cluster: tests/deploy and test_rollout.py stand for one",
    "kubectl ": "it takes a cluster: tests/deploy renders what is applied, test_rollout.py rehearses a rollout",
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
                commands = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", code, re.MULTILINE)
                found += [Example(page, language, *command) for command in commands if not elsewhere(command[0])]
            elif language in RUN:
                found.append(Example(page, language, code, shown))
    return found


def elsewhere(command: str) -> bool:
    """Whether a command is tested by another test."""
    return any(part in command for part in ELSEWHERE)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory, film: Path) -> Path:
    """A folder with what examples take from a clone, and a film. They write to it; the next ones go on with that."""
    folder = tmp_path_factory.mktemp("clone")
    for path in (*(ROOT / name for name in ("README.md", "tests", "services", ".venv")), film):
        (folder / path.name).symlink_to(path)
    return folder


def without_times(text: str) -> str:
    """Leave out how long something took."""
    return re.sub(r"[\d.]+(?=( ms| s\b|/s\)))", "#", text).strip()


@pytest.mark.parametrize("example", examples(), ids=str)
def test_an_example_prints_what_is_shown(stack: FrontDoor, clone: Path, example: Example) -> None:
    """And ends well."""
    done = subprocess.run(
        [*RUN[example.language], example.code.replace("localhost:8080", stack.edge)],
        cwd=clone,
        env=os.environ | {"FACET_URL": stack.url, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    printed = without_times(done.stdout).replace(stack.edge, "localhost:8080")
    pattern = ".*".join(map(re.escape, without_times(example.shown).split("...")))
    assert re.fullmatch(pattern, printed, re.DOTALL), printed


def test_every_block_is_one_that_is_run() -> None:
    """But for files, pictures made of letters, and commands that another test runs."""
    for page in PAGES:
        text = (ROOT / "docs" / page).read_text()
        for language, code in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
            assert language in {*RUN, "text", "yaml", "dockerfile", ""} or elsewhere(code), code
