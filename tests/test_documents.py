"""What the documents refer to exists, and the licenses are complete."""

import re
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
INDEX = ROOT / "docs/README.md"
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "LICENSES").glob("*.md")]
MAX_BYTES = 300_000  # of an image: every clone of the repository contains all of them
DOCKERFILES = [ROOT / "services/inference/Dockerfile", ROOT / "services/web/Dockerfile"]


def targets(page: Path) -> list[str]:
    """Return what a page links to, except other sites."""
    return re.findall(r"\]\((?!https?:|mailto:)([^)\s]*)\)", page.read_text())


def anchors(page: Path) -> list[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_target_of_every_link_exists(page: Path) -> None:
    """A file, a folder, or a heading of a page."""
    for target in targets(page):
        name, _, anchor = target.partition("#")
        linked = (page.parent / name) if name else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


def test_the_index_lists_every_page_once() -> None:
    """A reader finds each page of docs/ there."""
    pages = sorted(page.name for page in INDEX.parent.glob("*.md") if page != INDEX)
    assert sorted(target for target in targets(INDEX) if "/" not in target) == pages


def test_every_promise_is_tested() -> None:
    """Each promise of SECURITY.md names a file of tests, or tests that are in the linked file."""
    table = (ROOT / "SECURITY.md").read_text().partition("## What is promised")[2].partition("\n## ")[0]
    promises = re.findall(r"^\|[^|]*\|[^|]*\|(.*)\|$", table, re.MULTILINE)[2:]
    assert promises
    for promise in promises:
        shown = re.findall(r"\[`(\S+)`\]\((tests/\S+\.py)\)", promise)
        assert shown, promise
        for name, path in shown:
            assert name == path or f"def {name}(" in (ROOT / path).read_text(), name


def test_every_image_is_shown_and_small() -> None:
    """No image is left over from earlier text."""
    text = "".join(page.read_text() for page in PAGES)
    images = list((ROOT / "docs/images").iterdir())
    assert images
    for image in images:
        assert f"images/{image.name})" in text
        assert image.stat().st_size < MAX_BYTES


def test_the_license_of_the_weights_is_that_of_their_package() -> None:
    """The notice of the `mtcnn` distribution, unchanged."""
    package = distribution("mtcnn")
    (license_file,) = [file for file in package.files or () if file.name == "LICENSE"]
    notice = (ROOT / "LICENSES/mtcnn.txt").read_text()
    assert notice == Path(str(package.locate_file(license_file))).read_text()
    assert "Copyright (c) 2019-2024" in notice


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)
def test_the_images_carry_the_licenses(dockerfile: Path) -> None:
    """The final stage copies them, and the build context contains them."""
    final = dockerfile.read_text().rpartition("\nFROM ")[2]
    assert "COPY LICENSE LICENSES /usr/share/doc/facet/\n" in final
    assert {"!LICENSE", "!LICENSES"} <= set((ROOT / ".dockerignore").read_text().splitlines())
