"""The picture with its faces drawn on it, as the page saves it."""

from __future__ import annotations

import io

from PIL import Image, ImageChops
from playwright.sync_api import expect

from tests.stack.browser import FacetPage, File


def test_the_drawn_picture_is_downloaded(page: FacetPage, pair: File) -> None:
    """With all its pixels, named after the file, and with the faces that the slider leaves."""
    page.choose(pair)
    expect(page.marks).to_have_count(2)
    x, y = (round(share * side) for share, side in zip(page.boxes()[0][:2], (1000, 520), strict=True))
    for least, drawn in (("0.8", True), ("1", False)):
        page.tab.get_by_label("Confidence, at least").fill(least)
        with page.tab.expect_download() as download:
            page.tab.get_by_role("button", name="Download").click()
        assert download.value.suggested_filename == "pair-faces.png"
        picture = Image.open(download.value.path())
        assert (picture.format, picture.size) == ("PNG", (1000, 520))
        changed = ImageChops.difference(picture.convert("RGB"), Image.open(io.BytesIO(pair[2])).convert("RGB"))
        assert (changed.crop((x - 5, y - 5, x + 30, y + 30)).getbbox() is not None) is drawn
        assert changed.crop((0, 400, 1000, 520)).getbbox() is None  # where no face is


def test_a_picture_is_downloaded_once_at_a_time(page: FacetPage, portrait: File) -> None:
    """A second press while the picture is being drawn does nothing, and the button keeps the focus."""
    page.choose(portrait)
    expect(page.marks).to_have_count(1)
    page.tab.evaluate("""() => {
      const draw = HTMLCanvasElement.prototype.toBlob;
      window.drawn = 0;
      HTMLCanvasElement.prototype.toBlob = function (...arguments) {
        window.drawn += 1;
        draw.apply(this, arguments);
      };
    }""")
    button = page.tab.get_by_role("button", name="Download")
    with page.tab.expect_download():
        page.tab.evaluate("for (let press = 0; press < 3; press += 1) document.querySelector('#download').click()")
        button.focus()
    expect(button).not_to_have_attribute("aria-disabled", "true")
    expect(button).to_be_focused()
    assert page.tab.evaluate("window.drawn") == 1
    with page.tab.expect_download():
        button.click()
