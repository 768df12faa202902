"""The command line without a service: what it says of itself, and how it ends when it cannot go on."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import termios
from array import array
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import IO

import psutil
import pytest
from facet.command.app import app
from typer.testing import CliRunner

from tests.conftest import IMAGES
from tests.stack.running import wait_for

FACET = Path(sys.executable).with_name("facet")
NOBODY = "http://127.0.0.1:1"
PICTURE = str(IMAGES / "astronaut.webp")


def facet(*arguments: str) -> tuple[int, str]:
    """Run it in this process; give its exit code and all that it says."""
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.output


@pytest.mark.parametrize("command", ["detect", "health", "bench", "stream"])
def test_help_teaches_by_examples(command: str) -> None:
    """Two or more of them, which keep their lines."""
    code, text = facet(command, "--help")
    assert code == 0
    assert len(re.findall(rf"^ +(until )?facet {command}\b", text, re.MULTILINE)) >= 2, text
    assert "exit code" in text.lower()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_can_complete_it(shell: str) -> None:
    """The script that --install-completion would install."""
    environment = {"_FACET_COMPLETE": f"source_{shell}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([FACET], env=environment, capture_output=True, text=True, check=True)
    assert "facet" in done.stdout


def test_options_are_completed() -> None:
    """By the command itself, as the script asks it to."""
    environment = {"_FACET_COMPLETE": "complete_bash", "COMP_WORDS": "facet detect --ann", "COMP_CWORD": "2"}
    done = subprocess.run([FACET], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["--annotate"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "name a picture"),
        (["--json", "--csv", PICTURE], "choose one"),
        (["--output", "x", PICTURE], "--output needs"),
        (["--resume", PICTURE], "--resume needs"),
        (["--annotate", str(IMAGES), str(IMAGES)], "the pictures themselves"),
        (["*.nothing"], "no picture"),
        (["--files-from", "/nowhere", PICTURE], "No such file"),
        (["--files-from", "-", "-"], "either a picture or a list"),
        (["--url", "nowhere", PICTURE], "not an address"),
        (["--grpc", "ftp://nowhere", PICTURE], "not an address"),
        (["--style", "pixel", PICTURE], "blur"),
        (["--local", "--grpc", "localhost:1", PICTURE], "--local and --grpc"),
        (["--local", "--url", NOBODY, PICTURE], "--local and --url"),
        (["--grpc", "localhost:1", "--url", NOBODY, PICTURE], "--grpc and --url"),
        (["--local", "--min-face-size", "3", PICTURE], "at least 12"),
    ],
)
def test_a_wrong_command_line_ends_with_2_and_a_sentence(arguments: list[str], says: str) -> None:
    """Before anything is asked."""
    code, text = facet("detect", *arguments)
    assert (code, says in text) == (2, True), text


def test_a_drawn_picture_stays_in_its_folder(tmp_path: Path) -> None:
    """Whatever `..` there is in a path: in a pattern it may lead out, and is refused."""
    for name in ("photos", "photos/sub", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.webp").symlink_to(PICTURE)
    photos, drawn = tmp_path / "photos", tmp_path / "deep/drawn"
    arguments = [f"{photos}/a.webp", f"{photos}/../other/a.webp"]
    assert facet("detect", "--local", *arguments, "--annotate", str(drawn))[0] == 0
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.jpg")} == {
        "deep/drawn/photos/a.webp.jpg",
        "deep/drawn/other/a.webp.jpg",
    }
    code, text = facet("detect", "--local", f"{photos}/*/../../other/*.webp", "--annotate", f"{drawn}2")
    assert (code, "leads out of" in text) == (2, True), text


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not a folder without pictures; here one whose path is longer than a path may be."""
    (tmp_path / "photos/b").mkdir(parents=True)
    (tmp_path / "photos/a.webp").symlink_to(PICTURE)
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path / "photos")
        for _ in range(20):
            Path("d" * 250).mkdir()
            os.chdir("d" * 250)
    code, text = facet("detect", "--local", str(tmp_path / "photos"), "--quiet")
    assert code == 1
    assert re.search(r"^\S+/d{250}: UNREADABLE: File name too long$", text, re.MULTILINE), text
    assert "a.webp: 1 face" in text


def test_an_error_is_said_where_no_record_has_it(tmp_path: Path) -> None:
    """With --quiet, too."""
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    assert re.fullmatch(r"\S+a.jpg: INVALID_IMAGE.*\n", facet("detect", "--local", str(tmp_path), "--quiet")[1])
    said = facet("detect", "--local", str(tmp_path), "--quiet", "--json")[1]
    assert json.loads(said)["error"]["code"] == "INVALID_IMAGE"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("FACET_ENGINE", "bogus", "bogus"),
        ("FACET_WEIGHTS", "/nowhere", "/nowhere"),
        ("FACET_MAX_SIDE", "0", "FACET_MAX_SIDE: Input should be"),
    ],
)
def test_a_wrong_setting_of_the_local_detector_is_said_in_a_sentence(name: str, value: str, says: str) -> None:
    """As a wrong command line is."""
    command = [str(FACET), "detect", "--local", PICTURE]
    done = subprocess.run(command, env=os.environ | {name: value}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("facet: ")
    assert says in done.stderr


def waits_for(process: subprocess.Popen[bytes], pipe: IO[bytes]) -> bool:
    """Whether a process has taken all that is in a pipe, and sleeps."""
    left = array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, left)
    return left[0] == 0 and psutil.Process(process.pid).status() == psutil.STATUS_SLEEPING


def test_ctrl_c_ends_the_waiting_for_standard_input() -> None:
    """Whoever forgot to name a picture need not end that input first."""
    with subprocess.Popen([FACET, "detect", "-"], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stderr
        process.stdin.write(bytes(2**20))  # more than a pipe holds: when it is written, reading has begun
        process.stdin.flush()
        wait_for(partial(waits_for, process, process.stdin), "it waits for more")
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == b"facet: broken off\n"
    assert process.returncode == 130


def test_it_says_its_version() -> None:
    """That of the package."""
    assert facet("--version") == (0, f"facet {version('facet-client')}\n")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """Neither a file of records, nor a drawn picture, nor a picture itself."""
    mine = tmp_path / "mine.csv"
    mine.write_text("my own\n")
    for arguments in (["--csv", "-o", str(mine)], ["--csv", "-o", str(mine), "--resume"]):
        code, text = facet("detect", "--local", PICTURE, *arguments)
        assert (code, "mine.csv" in text) == (2, True)
        assert mine.read_text() == "my own\n"
    drawn = tmp_path / "drawn"
    assert facet("detect", "--local", PICTURE, "--annotate", str(drawn))[0] == 0
    (picture,) = drawn.iterdir()
    assert picture.name == "astronaut.webp.jpg"
    code, text = facet("detect", "--local", PICTURE, "--annotate", str(drawn))
    assert (code, "exists" in text) == (2, True)
    assert facet("detect", "--local", str(picture), "--annotate", str(drawn), "--json")[0] == 2


def test_a_path_may_hold_any_bytes(tmp_path: Path) -> None:
    """They come out as they went in."""
    name = os.fsdecode(b"\xff.webp")
    (tmp_path / name).symlink_to(PICTURE)
    for form in ([], ["--csv"], ["--json"]):
        done = subprocess.run([FACET, "detect", "--local", name, *form], cwd=tmp_path, capture_output=True, check=True)
        assert (b"udcff" if form == ["--json"] else b"\xff.webp") in done.stdout


def test_a_run_that_can_write_no_more_says_so(tmp_path: Path) -> None:
    """And how to go on, without a traceback; here the shell lets no file have a byte."""
    command = f"ulimit -f 0; exec {FACET} detect --local {PICTURE} --json -o {tmp_path}/faces.json"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "faces.json: File too large; to go on: facet detect" in done.stderr
    command = f"exec {FACET} detect --local {PICTURE} --json > /dev/full"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "facet: No space left on device\n")


def test_a_plot_that_cannot_be_drawn_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a service to measure, this would end with 3."""
    (tmp_path / "mine.svg").touch()
    for name, says in (("mine.svg", "exists"), ("plot.txt", ".png or .svg"), ("gone/plot.svg", "no folder")):
        code, text = facet("bench", PICTURE, "--url", NOBODY, "--plot", str(tmp_path / name))
        assert (code, says in text) == (2, True), text
    with monkeypatch.context() as patch:
        patch.setattr("sys.path", [])
        for name in [each for each in sys.modules if each.partition(".")[0] == "matplotlib"]:
            patch.delitem(sys.modules, name)
        code, text = facet("bench", PICTURE, "--url", NOBODY, "--plot", str(tmp_path / "plot.svg"))
    assert (code, "pip install './client[plot]'" in text) == (2, True), text


def test_bench_holds_no_more_pictures_than_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole folder of them may be larger than the memory; here with a smaller bound."""
    monkeypatch.setattr("facet.command.bench.MOST_BYTES", 1_000_000)
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(bytes(400_000))
    code, text = facet("bench", str(tmp_path), "--url", NOBODY)
    assert (code, "at most 1 MB" in text) == (2, True), text


@pytest.mark.parametrize("where", [["--url", NOBODY], ["--grpc", "127.0.0.1:1"]])
def test_without_a_service_it_ends_with_3_and_not_with_a_thousand_errors(where: list[str], tmp_path: Path) -> None:
    """After its tries for the first picture, which has a record."""
    for number in range(50):
        (tmp_path / f"{number}.jpg").touch()
    code, text = facet("detect", str(tmp_path), "--json", "--retries", "1", *where)
    assert (code, text.count("\n")) == (3, 3), text
    assert "cannot be reached" in text
    assert facet("health", *where)[0] == 3
    assert facet("bench", PICTURE, *where)[0] == 3


def test_what_is_not_installed_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extra to install."""
    for module, extra, arguments in (
        ("inference", "local", ["detect", "--local", PICTURE]),
        ("av", "video", ["stream", PICTURE]),
    ):
        with monkeypatch.context() as patch:
            for name in [*filter(re.compile(rf"{module}\b|facet\.(local|command\.video)$").match, sys.modules), module]:
                patch.setitem(sys.modules, name, None)
            for name in ("facet.local", "facet.command.video"):
                patch.delitem(sys.modules, name, raising=False)
            code, text = facet(*arguments)
        assert code == 2
        assert f"pip install './client[{extra}]'" in text
