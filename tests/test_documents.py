"""What the documents refer to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
MAX_BYTES = 300_000  # of a picture: a clone of the repository brings them all


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_links_to_exists(page: Path) -> None:
    """A file, a folder, or a heading of a page."""
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]*)\)", page.read_text()):
        name, _, anchor = target.partition("#")
        linked = (page.parent / name) if name else page
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings], target


def test_what_is_promised_is_tested() -> None:
    """Each promise names a file of tests, or tests that are in the file to which it links."""
    table = (ROOT / "SECURITY.md").read_text().partition("## What is promised")[2].partition("\n## ")[0]
    promises = re.findall(r"^\|[^|]*\|[^|]*\|(.*)\|$", table, re.MULTILINE)[2:]
    assert promises
    for promise in promises:
        shown = re.findall(r"\[`(\S+)`\]\((tests/\S+\.py)\)", promise)
        assert shown, promise
        for name, path in shown:
            assert name == path or f"def {name}(" in (ROOT / path).read_text(), name


def test_every_picture_is_shown_and_small() -> None:
    """None is left over from what a page once said."""
    text = "".join(page.read_text() for page in PAGES)
    pictures = list((ROOT / "docs/images").iterdir())
    assert pictures
    for picture in pictures:
        assert f"images/{picture.name})" in text
        assert picture.stat().st_size < MAX_BYTES
