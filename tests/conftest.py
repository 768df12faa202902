"""Fixtures and options for all tests."""

import io
import json
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

IMAGES = Path(__file__).parent / "images"
# The longest files start first; otherwise one process would run them while the others are idle.
SLOW = ("test_benchmark_runs.py", "stack", "hostile")


def encode(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    """Encode an image file."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def all_candidates(width: int, height: int) -> NDArray[np.uint8]:
    """Repeat a pattern of 4 x 4 pixels that makes every cell of P-Net a candidate at a scale of 1."""
    light, pale, violet, dark = [223, 157, 244], [247, 201, 214], [185, 106, 197], [31, 56, 98]
    rows = [[light, light, pale, pale]] * 2 + [[violet, violet, dark, dark]] * 2
    return np.tile(np.array(rows, np.uint8), (height // 4, width // 4, 1))


def wall_of_faces(face: Image.Image, width: int, height: int) -> Image.Image:
    """Tile an image with a face of the smallest size that is detected."""
    small = face.resize((26, 30), Image.Resampling.LANCZOS)
    wall = Image.new("RGB", (width, height))
    for x in range(0, width, small.width):
        for y in range(0, height, small.height):
            wall.paste(small, (x, y))
    return wall


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that the Makefile sets."""
    parser.addoption("--compose", action="store_true", help="test the compose stack; its images must have been built")
    parser.addoption("--long", action="store_true", help="run only the tests with figures, in their long forms")
    parser.addoption("--soak", type=float, metavar="MINUTES", help="run only the soak test, for this long")
    parser.addoption("--figures", type=Path, help="write the figures to this file, one JSON object per line")


def pytest_configure() -> None:
    """Handle SIGTERM, which a time limit sends, like Ctrl-C, so that fixtures stop what they have started.

    SIGINT is set too: a shell ignores it in background jobs.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Select tests by their fixtures: those for the kind of stack, and with --long those with figures."""

    def fits(item: pytest.Item) -> bool:
        asked = set(getattr(item, "fixturenames", ()))
        if bool(config.getoption("--soak")) != ("soak_minutes" in asked):
            return False
        if config.getoption("--long") and "figures" not in asked:
            return False
        if config.getoption("--compose"):
            return "compose" in asked or ("stack" in asked and "processes" not in asked)
        return "compose" not in asked

    others = [item for item in items if not fits(item)]
    items[:] = sorted(
        (item for item in items if fits(item)),
        key=lambda item: next((rank for rank, name in enumerate(SLOW) if name in item.path.parts), len(SLOW)),
    )
    for item in items:
        if "figures" in getattr(item, "fixturenames", ()):
            item.user_properties.append(("measures", True))
    config.hook.pytest_deselected(items=others)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the figures of all test processes, and write them to the file of --figures.

    A test that fails before it has measured anything gets a row that says so.
    """
    reports = [each for outcome in ("passed", "failed") for each in terminalreporter.getreports(outcome)]
    lines = [line for each in reports if each.when == "call" for key, line in each.user_properties if key == "figures"]
    failed = [*terminalreporter.getreports("failed"), *terminalreporter.getreports("error")]
    lines += dict.fromkeys(
        not_measured(each.nodeid)
        for each in failed
        if isinstance(each, pytest.TestReport)
        and "measures" in dict(each.user_properties)
        and "figures" not in dict(each.user_properties)
    )
    if lines:
        terminalreporter.section("figures")
    for line in lines:
        terminalreporter.write_line(line)
    if lines and (path := config.getoption("--figures")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines))


def not_measured(test: str) -> str:
    """Return the line of a test that failed without figures."""
    row = f"not measured: {test.rpartition('::')[2]} failed"
    return json.dumps({"row": row, "measured": {}, "at_most": {}, "at_least": {}, "met": False})


Figures = Callable[..., None]


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    """Record what a test measured: `figures("what happens", {"lost": 0}, at_most={"lost": 0}, at_least={})`.

    Targets are optional. The figures are printed as JSON at the end of the run, with whether all targets were met;
    benchmarks/report.py puts them into docs/figures.md. Tests record durations here and do not assert them, since
    they depend on the machine.
    """

    def record(
        row: str,
        measured: Mapping[str, float],
        *,
        at_most: Mapping[str, float] | None = None,
        at_least: Mapping[str, float] | None = None,
    ) -> None:
        most, least = dict(at_most or {}), dict(at_least or {})
        met = all(measured[name] <= bound for name, bound in most.items())
        met = met and all(measured[name] >= bound for name, bound in least.items())
        figures = {"row": row, "measured": dict(measured), "at_most": most, "at_least": least, "met": met}
        request.node.user_properties.append(("figures", json.dumps(figures)))

    return record


@pytest.fixture(scope="session")
def long(request: pytest.FixtureRequest) -> bool:
    """Whether tests run in their long forms, with the durations and counts of the targets."""
    return bool(request.config.getoption("--long"))


@pytest.fixture(scope="session")
def soak_minutes(request: pytest.FixtureRequest) -> float:
    """The duration of the soak test."""
    return float(request.config.getoption("--soak"))


@pytest.fixture(scope="session")
def astronaut_file() -> bytes:
    """NASA's portrait of Eileen Collins with one face, 512 x 512 pixels: scikit-image's astronaut, lossless."""
    return (IMAGES / "astronaut.webp").read_bytes()


@pytest.fixture(scope="session")
def astronaut(astronaut_file: bytes) -> Image.Image:
    """The portrait, decoded."""
    return Image.open(io.BytesIO(astronaut_file)).convert("RGB")


@pytest.fixture(scope="session")
def face(astronaut: Image.Image) -> Image.Image:
    """A small image with one face, which takes little time."""
    return astronaut.crop((142, 28, 302, 208)).resize((107, 120), Image.Resampling.LANCZOS)


@pytest.fixture(scope="session")
def face_file(face: Image.Image) -> bytes:
    """The small face as a PNG file."""
    return encode(face)
