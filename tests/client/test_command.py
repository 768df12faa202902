"""The command line without a service: its help, and how it ends on errors."""

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
IMAGE = str(IMAGES / "astronaut.webp")


def facet(*arguments: str) -> tuple[int, str]:
    """Run the command in this process; return its exit code and its output."""
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.output


@pytest.mark.parametrize("command", ["detect", "health", "bench", "stream"])
def test_help_teaches_by_examples(command: str) -> None:
    """There are at least two, and they keep their line breaks."""
    code, text = facet(command, "--help")
    assert code == 0
    assert len(re.findall(rf"^ +(until )?facet {command}\b", text, re.MULTILINE)) >= 2, text
    assert "exit code" in text.lower()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_can_complete_the_command(shell: str) -> None:
    """With the script that --install-completion installs."""
    environment = {"_FACET_COMPLETE": f"source_{shell}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([FACET], env=environment, capture_output=True, text=True, check=True)
    assert "facet" in done.stdout


def test_options_are_completed() -> None:
    """The script asks the command itself."""
    environment = {"_FACET_COMPLETE": "complete_bash", "COMP_WORDS": "facet detect --ann", "COMP_CWORD": "2"}
    done = subprocess.run([FACET], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["--annotate"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "name an image"),
        (["--json", "--csv", IMAGE], "choose one"),
        (["--output", "x", IMAGE], "--output needs"),
        (["--resume", IMAGE], "--resume needs"),
        (["--annotate", str(IMAGES), str(IMAGES)], "the original images"),
        (["*.nothing"], "no image"),
        (["--files-from", "/nowhere", IMAGE], "No such file"),
        (["--files-from", "-", "-"], "an image or a list"),
        (["--url", "nowhere", IMAGE], "not an address"),
        (["--grpc", "ftp://nowhere", IMAGE], "not an address"),
        (["--style", "pixel", IMAGE], "blur"),
        (["--local", "--grpc", "localhost:1", IMAGE], "--local and --grpc"),
        (["--local", "--url", NOBODY, IMAGE], "--local and --url"),
        (["--grpc", "localhost:1", "--url", NOBODY, IMAGE], "--grpc and --url"),
        (["--local", "--min-face-size", "3", IMAGE], "at least 12"),
    ],
)
def test_a_usage_error_is_one_sentence_and_exit_code_2(arguments: list[str], says: str) -> None:
    """Before any request."""
    code, text = facet("detect", *arguments)
    assert (code, says in text) == (2, True), text


def test_a_drawn_image_stays_in_its_folder(tmp_path: Path) -> None:
    """A path may contain `..`. A pattern that leads out of its folder with it is refused."""
    for name in ("photos", "photos/sub", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.webp").symlink_to(IMAGE)
    photos, drawn = tmp_path / "photos", tmp_path / "deep/drawn"
    arguments = [f"{photos}/a.webp", f"{photos}/../other/a.webp"]
    assert facet("detect", "--local", *arguments, "--annotate", str(drawn))[0] == 0
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.jpg")} == {
        "deep/drawn/photos/a.webp.jpg",
        "deep/drawn/other/a.webp.jpg",
    }
    code, text = facet("detect", "--local", f"{photos}/*/../../other/*.webp", "--annotate", f"{drawn}2")
    assert (code, "outside the folder" in text) == (2, True), text


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not a folder without images. Here its path is too long."""
    (tmp_path / "photos/b").mkdir(parents=True)
    (tmp_path / "photos/a.webp").symlink_to(IMAGE)
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path / "photos")
        for _ in range(20):
            Path("d" * 250).mkdir()
            os.chdir("d" * 250)
    code, text = facet("detect", "--local", str(tmp_path / "photos"), "--quiet")
    assert code == 1
    assert re.search(r"^\S+/d{250}: UNREADABLE: File name too long$", text, re.MULTILINE), text
    assert "a.webp: 1 face" in text


def test_an_error_without_a_record_is_printed(tmp_path: Path) -> None:
    """Even with --quiet."""
    (tmp_path / "a.jpg").write_bytes(b"not an image")
    assert re.fullmatch(r"\S+a.jpg: INVALID_IMAGE.*\n", facet("detect", "--local", str(tmp_path), "--quiet")[1])
    output = facet("detect", "--local", str(tmp_path), "--quiet", "--json")[1]
    assert json.loads(output)["error"]["code"] == "INVALID_IMAGE"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("FACET_ENGINE", "bogus", "bogus"),
        ("FACET_WEIGHTS", "/nowhere", "/nowhere"),
        ("FACET_MAX_SIDE", "0", "FACET_MAX_SIDE: Input should be"),
        ("FACET_STALL_SECONDS", "40", "must be below FACET_HANG_SECONDS"),
        ("OTEL_TRACES_EXPORTER", "other", "OTEL_TRACES_EXPORTER: Input should be"),
    ],
)
def test_an_invalid_setting_of_the_local_detector_is_one_sentence(name: str, value: str, says: str) -> None:
    """Like a usage error."""
    command = [str(FACET), "detect", "--local", IMAGE]
    done = subprocess.run(command, env=os.environ | {name: value}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("facet: ")
    assert says in done.stderr


def waits_for(process: subprocess.Popen[bytes], pipe: IO[bytes]) -> bool:
    """Whether a process has read all that is in the pipe, and sleeps."""
    left = array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, left)
    return left[0] == 0 and psutil.Process(process.pid).status() == psutil.STATUS_SLEEPING


def test_ctrl_c_interrupts_the_wait_for_standard_input() -> None:
    """The input need not end first."""
    with subprocess.Popen([FACET, "detect", "-"], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stderr
        process.stdin.write(bytes(2**20))  # more than a pipe holds, so reading has begun when it is written
        process.stdin.flush()
        wait_for(partial(waits_for, process, process.stdin), "it waits for more")
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == b"facet: interrupted\n"
    assert process.returncode == 130


def test_the_version_is_that_of_the_package() -> None:
    """With the name of the command."""
    assert facet("--version") == (0, f"facet {version('facet-client')}\n")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """No file of records, no drawn image, no original image."""
    mine = tmp_path / "mine.csv"
    mine.write_text("my own\n")
    for arguments in (["--csv", "-o", str(mine)], ["--csv", "-o", str(mine), "--resume"]):
        code, text = facet("detect", "--local", IMAGE, *arguments)
        assert (code, "mine.csv" in text) == (2, True)
        assert mine.read_text() == "my own\n"
    drawn = tmp_path / "drawn"
    assert facet("detect", "--local", IMAGE, "--annotate", str(drawn))[0] == 0
    (image,) = drawn.iterdir()
    assert image.name == "astronaut.webp.jpg"
    code, text = facet("detect", "--local", IMAGE, "--annotate", str(drawn))
    assert (code, "exists" in text) == (2, True)
    assert facet("detect", "--local", str(image), "--annotate", str(drawn), "--json")[0] == 2


def test_a_path_may_hold_any_bytes(tmp_path: Path) -> None:
    """It is written unchanged."""
    name = os.fsdecode(b"\xff.webp")
    (tmp_path / name).symlink_to(IMAGE)
    for form in ([], ["--csv"], ["--json"]):
        done = subprocess.run([FACET, "detect", "--local", name, *form], cwd=tmp_path, capture_output=True, check=True)
        assert (b"udcff" if form == ["--json"] else b"\xff.webp") in done.stdout


def test_a_run_that_cannot_write_reports_it(tmp_path: Path) -> None:
    """In one sentence with the command that continues it. Here the shell limits files to 0 bytes."""
    command = f"ulimit -f 0; exec {FACET} detect --local {IMAGE} --json -o {tmp_path}/faces.json"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "faces.json: File too large; to continue: facet detect" in done.stderr
    command = f"exec {FACET} detect --local {IMAGE} --json > /dev/full"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "facet: No space left on device\n")


def test_a_plot_that_cannot_be_written_is_refused_before_the_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The measurement would end with exit code 3, without a service."""
    (tmp_path / "mine.svg").touch()
    for name, says in (("mine.svg", "exists"), ("plot.txt", ".png or .svg"), ("gone/plot.svg", "not a folder")):
        code, text = facet("bench", IMAGE, "--url", NOBODY, "--plot", str(tmp_path / name))
        assert (code, says in text) == (2, True), text
    with monkeypatch.context() as patch:
        patch.setattr("sys.path", [])
        for name in [each for each in sys.modules if each.partition(".")[0] == "matplotlib"]:
            patch.delitem(sys.modules, name)
        code, text = facet("bench", IMAGE, "--url", NOBODY, "--plot", str(tmp_path / "plot.svg"))
    assert (code, "pip install './client[plot]'" in text) == (2, True), text


def test_bench_limits_the_memory_of_its_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of images may exceed the memory. Here the limit is smaller."""
    monkeypatch.setattr("facet.command.bench.MAX_BYTES", 1_000_000)
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(bytes(400_000))
    code, text = facet("bench", str(tmp_path), "--url", NOBODY)
    assert (code, "exceed 1 MB" in text) == (2, True), text


@pytest.mark.parametrize("where", [["--url", NOBODY], ["--grpc", "127.0.0.1:1"]])
def test_without_a_service_a_command_ends_with_exit_code_3(where: list[str], tmp_path: Path) -> None:
    """After the retries of the first image, which has a record."""
    for number in range(50):
        (tmp_path / f"{number}.jpg").touch()
    code, text = facet("detect", str(tmp_path), "--json", "--retries", "1", *where)
    assert (code, text.count("\n")) == (3, 3), text
    assert "cannot be reached" in text
    assert facet("health", *where)[0] == 3
    assert facet("bench", IMAGE, *where)[0] == 3


def test_a_missing_extra_is_reported_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence names the extra."""
    for module, extra, arguments in (
        ("inference", "local", ["detect", "--local", IMAGE]),
        ("av", "video", ["stream", IMAGE]),
    ):
        with monkeypatch.context() as patch:
            for name in [*filter(re.compile(rf"{module}\b|facet\.(local|command\.video)$").match, sys.modules), module]:
                patch.setitem(sys.modules, name, None)
            for name in ("facet.local", "facet.command.video"):
                patch.delitem(sys.modules, name, raising=False)
            code, text = facet(*arguments)
        assert code == 2
        assert f"pip install './client[{extra}]'" in text
