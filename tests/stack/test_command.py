"""The command `facet` against the running stack."""

import csv
import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import IMAGES
from tests.stack.conftest import FrontDoor
from tests.stack.gated_proxy import gated_proxy
from tests.stack.running import ROOT, RunningStack, ready, wait_for

FACET = str(Path(sys.executable).with_name("facet"))
ASTRONAUT = IMAGES / "astronaut.webp"


def facet(stack: FrontDoor, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does; its output is in pipes."""
    command = [FACET, *map(str, arguments)]
    environment = os.environ | {"FACET_URL": stack.url}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, **options)


@pytest.mark.parametrize("form", ["--json", "--csv"])
def test_a_folder_is_the_same_over_http_grpc_and_locally(stack: FrontDoor, folder: Path, form: str) -> None:
    """Record by record, in the order of the names. The damaged image changes only the exit code."""
    done = [facet(stack, "detect", folder, form, *where) for where in ([], ["--grpc", stack.edge], ["--local"])]
    assert [each.returncode for each in done] == [1, 1, 1], done[0].stderr
    assert done[0].stdout == done[1].stdout == done[2].stdout
    assert done[0].stdout.count("INVALID_IMAGE") == 1
    paths = [record["path"] for record in records(done[0].stdout, form)]
    assert list(dict.fromkeys(paths)) == names_in_order(folder)


def records(text: str, form: str) -> list[dict[str, Any]]:
    lines = text.splitlines()
    return list(csv.DictReader(lines)) if form == "--csv" else [json.loads(line) for line in lines]


def names(out: Path, form: str) -> list[str]:
    """Return the images that have records in a file, which may not exist yet."""
    return list(dict.fromkeys(record["path"] for record in records(out.read_text(), form))) if out.exists() else []


def names_in_order(folder: Path) -> list[str]:
    return [str(path) for path in sorted(folder.rglob("*.jpg"))]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("form", ["--json", "--csv"])
def test_an_interrupted_run_is_continued(
    stack: FrontDoor, folder: Path, tmp_path: Path, form: str, how: signal.Signals
) -> None:
    """At the end the file has each image exactly once."""
    out, whole = tmp_path / "out", facet(stack, "detect", folder, form)
    command = [FACET, "detect", str(folder), form, "--output", str(out), "-c", "1", "--timeout", "600"]
    with (
        gated_proxy(stack.url, after=12) as front,
        subprocess.Popen(
            command, env=os.environ | {"FACET_URL": front.url}, stderr=subprocess.PIPE, text=True
        ) as process,
    ):
        wait_for(lambda: names(out, form) == names_in_order(folder)[:12], "twelve images are done")
        process.send_signal(how)
        _, errors = process.communicate()
    assert names(out, form) == names_in_order(folder)[:12]
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert errors.endswith(
            f"to continue: facet detect {folder} {form} --output {out} -c 1 --timeout 600 --resume\n"
        )
    rest = facet(stack, "detect", folder, form, "--output", out, "--resume")
    assert rest.returncode == 1
    assert "already done" in rest.stderr
    assert sorted(out.read_text().splitlines()) == sorted(whole.stdout.splitlines())
    again = facet(stack, "detect", folder, form, "--output", out, "--resume")
    assert re.match(r".*\n1 image in .*1 failed.* 59 already done", again.stderr), again.stderr


def test_images_above_the_limit_do_not_end_a_run_over_grpc(stack: FrontDoor, folder: Path, tmp_path: Path) -> None:
    """Even if there are more in a row than the failures after which a service is given up."""
    for number in range(12):
        (tmp_path / f"{number:02}.jpg").write_bytes(bytes((12 + number) * 1024**2))
    (tmp_path / "99.jpg").hardlink_to(folder / "odd/05.jpg")
    done = facet(stack, "detect", tmp_path, "--json", "--quiet", "--grpc", stack.edge)
    codes = [record.get("error", {}).get("code", "") for record in records(done.stdout, "--json")]
    assert (done.returncode, codes) == (1, [*12 * ["BODY_TOO_LARGE"], ""]), done.stderr


def test_a_run_of_a_thousand_images_is_continued(stack: FrontDoor, folder: Path, tmp_path: Path) -> None:
    """With a progress bar. At the end the records equal those over gRPC and those of the local detector."""
    many, out = tmp_path / "many", tmp_path / "out.csv"
    many.mkdir()
    sources = [path for path in sorted(folder.rglob("*.jpg")) if path.name != "04.jpg"]
    for number in range(1000):
        (many / f"{number:04}.jpg").hardlink_to(sources[number % len(sources)])
    command = [FACET, "detect", str(many), "--csv", "--output", str(out), "--timeout", "600"]
    with (
        gated_proxy(stack.url, after=600) as front,
        subprocess.Popen(command, env=os.environ | {"FACET_URL": front.url}) as process,
    ):
        wait_for(lambda: len(names(out, "--csv")) > 500, "half of them are done")
        process.send_signal(signal.SIGINT)
    assert process.returncode == 130
    assert 500 < len(names(out, "--csv")) < 1000
    assert "1000/1000" in on_a_terminal(stack, "detect", many, "--csv", "--output", out, "--resume")
    rows = sorted(out.read_text().splitlines())
    assert len(names(out, "--csv")) == 1000
    for where in (["--grpc", stack.edge], ["--local"]):
        assert sorted(facet(stack, "detect", many, "--csv", *where).stdout.splitlines()) == rows


def test_drawn_images_keep_the_folders_of_their_sources(stack: FrontDoor, folder: Path, tmp_path: Path) -> None:
    """An image that is already drawn is not drawn again. Records may be written too."""
    drawn = tmp_path / "drawn"
    for where in ([], ["--grpc", stack.edge]):
        target = drawn / str(len(where))
        done = facet(stack, "detect", folder, "--annotate", target, "--csv", *where)
        assert done.stdout == facet(stack, "detect", folder, "--csv", *where).stdout
        expected = {path.relative_to(folder) for path in folder.rglob("*.jpg")} - {Path("even/04.jpg")}
        assert {path.relative_to(target) for path in target.rglob("*") if path.is_file()} == expected
        missing = target / "odd/05.jpg"
        missing.unlink()
        rest = facet(stack, "detect", folder, "--annotate", target, "--resume", *where)
        assert rest.stdout == f"{folder}/odd/05.jpg: 1 face\n" + rest.stdout.partition("\n")[2]
        assert "58 already done" in rest.stderr
        assert missing.exists()
    assert (drawn / "0/odd/05.jpg").read_bytes() == (drawn / "2/odd/05.jpg").read_bytes()
    hidden = facet(stack, "detect", ASTRONAUT, "--annotate", tmp_path / "hidden", "--style", "blur")
    assert hidden.returncode == 0
    assert facet(stack, "detect", tmp_path / "hidden").stdout.endswith("astronaut.webp.jpg: 0 faces\n")


def test_standard_input_is_an_image_or_a_list(stack: FrontDoor, folder: Path) -> None:
    """Both are useful in a pipe."""
    command = f"{FACET} detect - --json --url {stack.url} < {ASTRONAUT}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert (json.loads(done.stdout)["path"], len(json.loads(done.stdout)["faces"])) == ("-", 1)
    listed = facet(stack, "detect", "--files-from", "-", "--quiet", input=f"{folder}/odd/05.jpg\n{ASTRONAUT}\n")
    assert listed.stdout.splitlines()[0] == f"{folder}/odd/05.jpg: 1 face"
    assert f"{ASTRONAUT}: 1 face" in listed.stdout
    assert listed.stderr == ""


def test_the_progress_bar_is_shown_on_a_terminal_only(stack: FrontDoor, folder: Path, tmp_path: Path) -> None:
    """It has the count, the rate and the failures. In a pipe there is one line at the end, and none with --quiet."""
    out = tmp_path / "out"
    seen = on_a_terminal(stack, "detect", folder, "--json", "--output", out)
    assert re.search(r"━ +60/60 \d+\.\d/s 0:00:00 1 failed", seen), seen
    assert "04.jpg: INVALID_IMAGE" in seen
    assert len(out.read_text().splitlines()) == 60
    piped = facet(stack, "detect", folder, "--json")
    assert "━" not in piped.stderr
    assert re.fullmatch(r"\S+04.jpg: INVALID_IMAGE.*\n60 images in .*, 1 failed, \d+ faces\n", piped.stderr)
    assert facet(stack, "detect", folder, "--json", "--quiet").stderr == ""


def on_a_terminal(stack: FrontDoor, *arguments: object) -> str:
    """Run the command on a pseudo-terminal and return what it shows, without colors."""
    master, slave = pty.openpty()
    environment = os.environ | {"FACET_URL": stack.url, "TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen([FACET, *map(str, arguments)], env=environment, stderr=slave):
        os.close(slave)
        seen = b"".join(iter(lambda: read_terminal(master), b"")).decode()
    os.close(master)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen)


def read_terminal(master: int) -> bytes:
    """Read from a pseudo-terminal; return nothing when the other end is closed."""
    try:
        return os.read(master, 65536)
    except OSError:
        return b""


def test_a_command_ends_when_the_service_is_gone(tmp_path: Path, folder: Path, processes: RunningStack) -> None:
    """After ten images in a row without an answer, with exit code 3 and the command that continues the run."""
    out = tmp_path / "out.json"
    supervisor = processes.supervisors()[0]
    wait_for(lambda: ready(processes.url), "Envoy knows its workers")
    command = [FACET, "detect", str(folder), "--json", "-o", str(out), "-c", "1", "--retries", "0", "--timeout", "600"]
    with (
        gated_proxy(processes.url, after=12) as front,
        subprocess.Popen([*command, "--url", front.url], stderr=subprocess.PIPE, text=True) as process,
    ):
        wait_for(lambda: names(out, "--json") == names_in_order(folder)[:12], "twelve images are done")
        supervisor.send_signal(signal.SIGSTOP)
        try:
            for worker in processes.workers():
                worker.kill()
            front.let_through()
            _, errors = process.communicate()
        finally:
            supervisor.send_signal(signal.SIGCONT)
    assert process.returncode == 3, errors
    assert "--resume" in errors.splitlines()[-1]
    assert names(out, "--json") == names_in_order(folder)[:22]
    wait_for(lambda: ready(processes.url), "Envoy has found new workers")
    assert facet(processes, "detect", folder, "--json", "-o", out, "--resume").returncode == 1
    paths = [record["path"] for record in records(out.read_text(), "--json")]
    assert sorted(paths) == names_in_order(folder)


def test_health_is_one_line(stack: FrontDoor) -> None:
    """And an exit code."""
    for where in ([], ["--grpc", stack.edge]):
        done = facet(stack, "health", *where)
        assert done.returncode == 0
        assert re.fullmatch(r"\S+ is ready \(\d+\.\d ms\)\n", done.stdout)


def test_bench_measures_and_draws(stack: FrontDoor, folder: Path, tmp_path: Path) -> None:
    """Over HTTP and gRPC. The warm-up does not count."""
    picture, plot = folder / "odd/05.jpg", tmp_path / "plot.svg"
    for where in ([], ["--grpc", stack.edge]):
        done = facet(stack, "bench", picture, "--rate=20", "--duration=1", "--warm-up=0.5", "--json", *where)
        found = json.loads(done.stdout)
        assert (found["requests"], found["examined"], found["errors"]) == (20, 20, {})
        assert 0 < found["latency_ms"]["50"] <= found["latency_ms"]["max"]
    done = facet(stack, "bench", picture, "--rate=20", "--duration=1", "--plot", plot)
    assert "20 of 20 images examined" in done.stdout
    assert "█" in done.stdout
    assert "<svg" in plot.read_text()


def test_bench_shows_its_figures_after_ctrl_c(stack: FrontDoor, folder: Path) -> None:
    """The measurement ends early."""
    with gated_proxy(stack.url, after=1_000_000) as front:
        command = [FACET, "bench", str(folder / "odd/05.jpg"), "--rate=50", "--duration=600", "--warm-up=0", "--json"]
        with subprocess.Popen(
            [*command, "--url", front.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            wait_for(lambda: front.passed > 50, "some requests are under way")
            process.send_signal(signal.SIGINT)
            out, errors = process.communicate()
    assert (process.returncode, errors) == (130, "")
    assert 0 < json.loads(out)["examined"] < 50 * 600
    assert facet(stack, "bench", folder / "odd/05.jpg", "--min-face-size=3").returncode == 2


def test_every_frame_of_a_video_is_examined(stack: FrontDoor, film: Path, tmp_path: Path) -> None:
    """No frame is lost, and the face moves. The drawn video has the same frames, with its faces hidden."""
    done = facet(stack, "stream", film, "--csv")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert [int(row["frame"]) for row in rows] == list(range(30))
    assert [float(row["seconds"]) for row in rows] == [number / 25 for number in range(30)]
    assert float(rows[29]["x1"]) - float(rows[0]["x1"]) == pytest.approx(58, abs=4)
    assert "30 frames" in done.stderr
    hidden = tmp_path / "hidden.mp4"
    done = facet(stack, "stream", film, "--every", "10", "--annotate", hidden, "--style", "blur", "--json")
    assert [json.loads(line)["frame"] for line in done.stdout.splitlines()] == [0, 10, 20]
    assert re.search(r"3 frames .* 0 faces", facet(stack, "stream", hidden, "--grpc", stack.edge).stderr)
    frames = tmp_path / "frames"
    facet(stack, "stream", film, "--fps", "2", "--annotate", frames)
    assert sorted(path.name for path in frames.iterdir()) == [f"frame-{number:06}.jpg" for number in (0, 13, 25)]


def test_a_live_video_drops_frames(stack: FrontDoor, film: Path) -> None:
    """A pipe does not wait: frames are dropped, and the last one is examined."""
    command = f"cat {film} | {FACET} stream /dev/stdin --json --url {stack.url}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    frames = [json.loads(line)["frame"] for line in done.stdout.splitlines()]
    assert frames == sorted(set(frames))
    assert frames[-1] == 29
    assert f"{30 - len(frames)} dropped" in done.stderr


def test_the_client_is_installed_from_a_clone(stack: FrontDoor, tmp_path: Path) -> None:
    """By uv, with what it needs, into an environment that has nothing; the command there finds the face."""
    uv = str(Path(sys.executable).with_name("uv"))
    home = tmp_path / "venv"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(home)], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", str(home / "bin/python"), "./client"]
    subprocess.run(install, cwd=ROOT, check=True)
    command = [str(home / "bin/facet")]
    assert "Usage: facet" in subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout
    done = subprocess.run(
        [*command, "detect", str(ASTRONAUT), "--url", stack.url], capture_output=True, text=True, check=True
    )
    assert "1 face\n  83 x 107 at (182, 64), confidence 0.9991\n" in done.stdout
