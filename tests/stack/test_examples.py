"""Every example in docs/ works and prints what the page shows."""

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
    # Playwright ships with Node.js.
    "javascript": [str(Path(playwright.__file__).parent / "driver/node"), "--input-type=module", "--eval"],
    "console": ["bash", "-c"],
}
# Commands that are not run here, by a part of them, and the test that runs them.
ELSEWHERE = {
    "pip install ./client": "tests/stack/test_command.py",
    "facet_gateway": "tests/stack/test_traces_compose.py",
    "facet_workers": "tests/stack/test_traces_compose.py",
    "make up TRACES=on": "tests/stack/test_traces_compose.py",
    "make up": "tests/stack/test_readme.py",
    "OTEL_EXPORTER_OTLP_ENDPOINT=": "tests/stack/test_traces.py",
    "make key": "tests/stack/test_security_page.py",
    "make certificates": "tests/stack/test_security_page.py",
    "make serve": "tests/stack/test_security_page.py",
    "FACET_API_KEY": "tests/stack/test_security_page.py",
    "--cacert": "tests/stack/test_security_page.py",
    "make images": "make test-stack builds the images",
    "kind ": "needs a cluster; tests/stack/test_rollout.py imitates one",
    "kubectl ": "needs a cluster; tests/deploy renders the manifests, test_rollout.py rehearses a rollout",
}


@dataclass(frozen=True)
class Example:
    """A command or a program, and its expected output; `...` stands for anything."""

    page: str
    language: str
    code: str
    shown: str

    def __str__(self) -> str:
        return f"{self.page}: {self.code.splitlines()[0]}"


def examples() -> list[Example]:
    """Collect all examples. In a console block, each `$ ` line is a command and the lines below it are its output."""
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
    """Whether another test runs the command."""
    return any(part in command for part in ELSEWHERE)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory, film: Path) -> Path:
    """A folder with the files that examples use, and a film. Later examples see what earlier ones wrote there."""
    folder = tmp_path_factory.mktemp("clone")
    for path in (*(ROOT / name for name in ("README.md", "tests", "services", ".venv")), film):
        (folder / path.name).symlink_to(path)
    return folder


def without_times(text: str) -> str:
    """Replace durations and rates."""
    return re.sub(r"[\d.]+(?=( ms| s\b|/s\)))", "#", text).strip()


@pytest.mark.parametrize("example", examples(), ids=str)
def test_an_example_prints_what_is_shown(stack: FrontDoor, clone: Path, example: Example) -> None:
    """It also exits with status 0."""
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


def test_every_code_block_is_run() -> None:
    """Except file contents, diagrams, and commands that another test runs."""
    for page in PAGES:
        text = (ROOT / "docs" / page).read_text()
        for language, code in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
            assert language in {*RUN, "text", "yaml", "dockerfile", ""} or elsewhere(code), code
