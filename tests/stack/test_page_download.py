"""The image with its faces drawn on it, as the page saves it."""

import io

from PIL import Image, ImageChops
from playwright.sync_api import expect

from tests.stack.browser import FacetPage, File


def test_the_drawn_image_is_downloaded(page: FacetPage, pair: File) -> None:
    """In full resolution, named after the file, and with the faces that the slider admits."""
    page.choose(pair)
    expect(page.marks).to_have_count(2)
    x, y = (round(share * side) for share, side in zip(page.boxes()[0][:2], (1000, 520), strict=True))
    for least, marked in (("0.8", True), ("1", False)):
        page.tab.get_by_label("Confidence, at least").fill(least)
        with page.tab.expect_download() as download:
            page.tab.get_by_role("button", name="Download").click()
        assert download.value.suggested_filename == "pair-faces.png"
        drawn = Image.open(download.value.path())
        assert (drawn.format, drawn.size) == ("PNG", (1000, 520))
        changed = ImageChops.difference(drawn.convert("RGB"), Image.open(io.BytesIO(pair[2])).convert("RGB"))
        assert (changed.crop((x - 5, y - 5, x + 30, y + 30)).getbbox() is not None) is marked
        assert changed.crop((0, 400, 1000, 520)).getbbox() is None  # no face is there


def test_one_image_is_downloaded_at_a_time(page: FacetPage, portrait: File) -> None:
    """A second click while the image is being drawn has no effect, and the button keeps the focus."""
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
        page.tab.evaluate("for (let click = 0; click < 3; click += 1) document.querySelector('#download').click()")
        button.focus()
    expect(button).not_to_have_attribute("aria-disabled", "true")
    expect(button).to_be_focused()
    assert page.tab.evaluate("window.drawn") == 1
    with page.tab.expect_download():
        button.click()
