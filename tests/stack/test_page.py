"""The page in a real browser: images go in, and their faces are marked in place."""

import base64
import io
from typing import Any

import httpx
import pytest
from PIL import Image, ImageChops, ImageOps, ImageStat
from playwright.sync_api import Browser, expect

from tests.conftest import encode
from tests.stack.browser import FacetPage, File, as_shares
from tests.stack.conftest import FrontDoor

ORIENTATION = 0x0112  # the EXIF tag
# Turns an upright image into the stored form of an orientation.
STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def predict(client: httpx.Client, file: File) -> dict[str, Any]:
    """Call the service itself."""
    answer: dict[str, Any] = client.post("/predict", content=file[2], headers={"Content-Type": file[1]}).json()
    return answer


def assert_shown(page: FacetPage, answer: dict[str, Any]) -> None:
    """Check that the boxes on the screen are those of an answer, within the width of their lines."""
    expected = as_shares(answer)
    expect(page.marks).to_have_count(len(expected))
    for shown, wanted in zip(page.boxes(), expected, strict=True):
        assert shown == pytest.approx(wanted, abs=0.005)


def test_a_dropped_image_shows_its_faces(page: FacetPage, client: httpx.Client, pair: File) -> None:
    """All faces of the service's answer, in place."""
    answer = predict(client, pair)
    assert len(answer["results"]) == 2
    page.drop(pair)
    expect(page.status).to_have_text("2 faces found in pair.png")
    assert_shown(page, answer)
    expect(page.tab.locator("#faces li")).to_have_count(2)
    dots = page.marks.first.locator("i")
    expect(dots).to_have_count(5)
    dot, box = dots.nth(2).bounding_box(), page.marks.first.bounding_box()  # the nose is inside
    assert dot
    assert box
    assert box["x"] < dot["x"] < box["x"] + box["width"]
    assert box["y"] < dot["y"] < box["y"] + box["height"]


def test_a_dragged_file_covers_the_page(page: FacetPage) -> None:
    """Until it leaves or something is dropped; for something other than a file there is a message."""
    page.tab.evaluate(
        """() => {
          const transfer = new DataTransfer();
          transfer.items.add(new File(["x"], "x.png", { type: "image/png" }));
          document.body.dispatchEvent(new DragEvent("dragover", { dataTransfer: transfer, bubbles: true }));
        }"""
    )
    expect(page.tab.locator("#drop")).to_be_visible()
    page.tab.dispatch_event("body", "dragleave")
    expect(page.tab.locator("#drop")).to_be_hidden()
    page.drop()
    expect(page.tab.get_by_role("alert")).to_contain_text("That was not a file")


def test_images_are_chosen_with_the_button(page: FacetPage, portrait: File) -> None:
    """It opens the browser's dialog for several files of the accepted types."""
    with page.tab.expect_file_chooser() as chooser:
        page.tab.get_by_text("Choose pictures").click()
    assert chooser.value.is_multiple()
    assert chooser.value.element.get_attribute("accept") == "image/jpeg,image/png,image/webp"
    page.choose(portrait)
    expect(page.status).to_have_text("1 face found in astronaut.webp")


def test_an_image_is_pasted(browser: Browser, stack: FrontDoor, face_file: bytes) -> None:
    """From the real clipboard."""
    with FacetPage(browser, stack.url, permissions=["clipboard-read", "clipboard-write"]) as page:
        page.tab.evaluate(
            """async (bytes) => {
              const image = new Blob([new Uint8Array(bytes)], { type: "image/png" });
              await navigator.clipboard.write([new ClipboardItem({ "image/png": image })]);
            }""",
            list(face_file),
        )
        page.tab.keyboard.press("Control+V")
        expect(page.marks).to_have_count(1)
        assert page.errors == []


def test_the_confidence_slider_filters_without_a_request(page: FacetPage, client: httpx.Client, pair: File) -> None:
    """At once; the list, the thumbnail and the texts follow, also those for screen readers."""
    sure, less = sorted((result["confidence"] for result in predict(client, pair)["results"]), reverse=True)
    page.choose(pair)
    expect(page.marks).to_have_count(2)
    asked = len(page.requests)
    slider = page.tab.get_by_label("Confidence, at least")
    slider.fill(f"{(sure + less) / 2:.3f}")
    expect(page.marks).to_have_count(1)
    expect(page.marks.locator("span")).to_have_text(f"{sure:.3f}")
    expect(page.tab.locator("#faces li")).to_have_count(1)
    expect(page.tab.locator("#summary")).to_have_text("1 of 2 faces shown")
    expect(page.status).to_have_text("1 of 2 faces shown in pair.png")
    slider.fill("1")
    expect(page.marks).to_have_count(0)
    page.choose(("more.png", *pair[1:]))
    expect(page.status).to_have_text("0 of 2 faces shown in more.png")
    expect(page.tab.locator("#summary")).to_have_text("0 of 2 faces shown")
    expect(page.tab.locator("#strip button").last).to_have_accessible_name("more.png: 0 faces")
    slider.fill("0.8")
    expect(page.marks).to_have_count(2)
    assert len(page.requests) == asked + 1


def test_the_smallest_face_needs_a_new_request(page: FacetPage, pair: File) -> None:
    """One request, once the slider is at rest; the confidence is never sent."""
    page.choose(pair)
    expect(page.marks).to_have_count(2)
    slider = page.tab.get_by_label("Smallest face to look for")
    slider.focus()
    for key in ("ArrowRight", "ArrowRight", "End"):
        page.tab.keyboard.press(key)
    expect(slider).to_have_attribute("aria-valuetext", "400 pixels")
    expect(page.status).to_have_text("no faces found in pair.png")
    expect(page.marks).to_have_count(0)
    queries = [request.url.partition("?")[2] for request in page.requests]
    assert queries == ["min_face_size=20", "min_face_size=400"]


def test_an_outdated_answer_is_not_shown(page: FacetPage, portrait: File) -> None:
    """Its request is aborted."""
    page.tab.route("**/predict?min_face_size=20", lambda _: None)  # never answered
    page.choose(portrait)
    expect(page.tab.locator("#stage[data-state=asking]")).to_be_visible()
    with page.tab.expect_event("requestfailed") as given_up:
        page.tab.get_by_label("Smallest face to look for").fill("18")
    assert given_up.value.url.endswith("=20")
    expect(page.status).to_have_text("no faces found in astronaut.webp")


def test_five_images_are_examined_four_at_a_time(
    page: FacetPage, client: httpx.Client, portrait: File, pair: File, hopper: File, face_file: bytes
) -> None:
    """Each is in the strip with its number of faces, and is shown when it is selected there."""
    files = [portrait, pair, hopper, ("face.png", "image/png", face_file), ("again.webp", *portrait[1:])]
    page.tab.route("**/predict?*", lambda _: None)  # none is answered yet
    page.drop(*files)
    strip = page.tab.get_by_role("list", name="Pictures").get_by_role("button")
    expect(strip).to_have_count(5)
    expect(strip.and_(page.tab.locator("[data-state=asking]"))).to_have_count(4)
    expect(strip.and_(page.tab.locator("[data-state=waiting]"))).to_have_count(1)
    page.wait_for(lambda: len(page.requests) == 4, "four are sent")
    page.tab.unroute("**/predict?*")  # lets them proceed
    for index, (file, faces) in enumerate(zip(files, (1, 2, 1, 1, 1), strict=True)):
        expect(strip.nth(index)).to_have_accessible_name(f"{file[0]}: {faces} face{'s' if faces > 1 else ''}")
    for index, file in enumerate(files):
        strip.nth(index).click()
        expect(page.tab.locator("#name")).to_have_text(file[0])
        assert_shown(page, predict(client, file))
    page.tab.get_by_role("button", name="Remove").click()
    expect(strip).to_have_count(4)


@pytest.mark.parametrize(
    ("form", "orientation"),
    [("JPEG", 3), ("JPEG", 6), ("PNG", 3), ("PNG", 6), *(("WEBP", orientation) for orientation in STORED)],
)
def test_an_image_is_shown_as_the_service_sees_it(
    page: FacetPage, client: httpx.Client, pair: File, form: str, orientation: int
) -> None:
    """Upright, whether or not the browser applies a format's EXIF orientation."""
    upright = Image.open(io.BytesIO(pair[2]))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = encode(upright.transpose(STORED[orientation]), form, exif=exif)
    assert ImageOps.exif_transpose(Image.open(io.BytesIO(stored))).size == upright.size
    file = ("stored", f"image/{form.lower()}", stored)
    page.choose(file)
    expect(page.marks).to_have_count(2)
    assert_shown(page, predict(client, file))
    page.wait_for(lambda: difference(shown(page), upright) < 10, "the image is upright")


def shown(page: FacetPage) -> Image.Image:
    """Return the image on the screen, without its marks."""
    url = page.tab.evaluate("document.querySelector('#view').toDataURL()")
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")


def difference(one: Image.Image, other: Image.Image) -> float:
    """Return the mean difference of two images, of 255; they differ completely if their sizes do."""
    if one.size != other.size:
        return 255
    return max(ImageStat.Stat(ImageChops.difference(one, other)).mean)


def test_the_panel_has_times_and_json(page: FacetPage, portrait: File) -> None:
    """The steps in their order, what computed them, and the answer as it came."""
    page.choose(portrait)
    expect(page.tab.locator("#round-trip")).to_contain_text("until the answer arrived")
    expect(page.tab.locator("#worker")).to_contain_text("mtcnn on ")
    assert page.tab.locator("#steps th").all_text_contents()[:2] == ["Waiting in line", "Decoding"]
    page.tab.get_by_text("JSON", exact=True).click()
    expect(page.tab.get_by_role("region", name="The answer as JSON")).to_contain_text('"confidence": 0.999')


def test_pointing_at_a_face_in_the_list_highlights_it(page: FacetPage, pair: File) -> None:
    """The keyboard's focus does the same."""
    page.choose(pair)
    entries = page.tab.locator("#faces button")
    entries.nth(1).hover()
    expect(page.tab.locator(".mark.lit")).to_have_attribute("data-face", "2")
    entries.nth(0).focus()
    expect(page.tab.locator(".mark.lit")).to_have_attribute("data-face", "1")
    page.tab.get_by_label("Confidence, at least").focus()
    expect(page.tab.locator(".mark.lit")).to_have_count(0)
    expect(page.tab.locator("#marks.one")).to_have_count(0)
