"""The page for people, in a real browser: pictures go in, and faces are shown where they are."""

from __future__ import annotations

import base64
import io
from itertools import pairwise
from pathlib import Path

import httpx
import matplotlib as mpl
import pytest
from PIL import Image, ImageChops, ImageOps, ImageStat
from playwright.sync_api import Browser, Route, expect

from tests.conftest import encode
from tests.stack.browser import ELSEWHERE, FacetPage, File, as_shares
from tests.stack.conftest import FrontDoor
from tests.stack.running import wait_for

JPEG, PNG, WEBP = "image/jpeg", "image/png", "image/webp"
ORIENTATION = 0x0112  # the EXIF tag
# What brings an upright picture into the state that an orientation describes: the inverse of what undoes it.
LAID = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.fixture(scope="session")
def portrait(astronaut_file: bytes) -> File:
    return ("astronaut.webp", WEBP, astronaut_file)


@pytest.fixture(scope="session")
def pair(astronaut: Image.Image) -> File:
    """One face twice, wider than high; the second is squeezed, and less of a face to the model."""
    both = Image.new("RGB", (1000, 520), "white")
    both.paste(astronaut, (0, 0))
    both.paste(astronaut.resize((300, 400)), (560, 60))
    return ("pair.png", PNG, encode(both))


@pytest.fixture(scope="session")
def hopper() -> File:
    """Grace Hopper's portrait."""
    return ("hopper.jpg", JPEG, (Path(mpl.get_data_path()) / "sample_data/grace_hopper.jpg").read_bytes())


def answer_for(client: httpx.Client, file: File) -> list[tuple[float, ...]]:
    """Ask the service itself where the faces are."""
    response = client.post("/predict", content=file[2], headers={"Content-Type": file[1]})
    return as_shares(response.json())


def assert_shown(page: FacetPage, expected: list[tuple[float, ...]]) -> None:
    """The boxes on the screen are those, to the width of their lines."""
    expect(page.marks).to_have_count(len(expected))
    for shown, wanted in zip(page.boxes(), expected, strict=True):
        assert shown == pytest.approx(wanted, abs=0.005)


def test_a_picture_that_is_dropped_shows_its_faces(page: FacetPage, client: httpx.Client, pair: File) -> None:
    """As many as the service finds, and where it finds them."""
    expected = answer_for(client, pair)
    assert len(expected) == 2
    page.drop(pair)
    expect(page.status).to_have_text("2 faces found in pair.png")
    assert_shown(page, expected)
    expect(page.tab.locator("#faces li")).to_have_count(2)
    dots = page.marks.first.locator("i")
    expect(dots).to_have_count(5)
    dot, box = dots.nth(2).bounding_box(), page.marks.first.bounding_box()  # the nose is inside
    assert dot
    assert box
    assert box["x"] < dot["x"] < box["x"] + box["width"]
    assert box["y"] < dot["y"] < box["y"] + box["height"]


def test_the_curtain_falls_while_a_file_is_dragged(page: FacetPage) -> None:
    """And is lifted when it leaves, or when something else is dropped, which gets a word."""
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
    expect(page.tab.get_by_role("alert")).to_contain_text("That was no file")


def test_pictures_are_chosen_with_the_button(page: FacetPage, portrait: File) -> None:
    """Which opens the browser's own dialogue, for several of the accepted types."""
    with page.tab.expect_file_chooser() as chooser:
        page.tab.get_by_text("Choose pictures").click()
    assert chooser.value.is_multiple()
    assert chooser.value.element.get_attribute("accept") == f"{JPEG},{PNG},{WEBP}"
    page.choose(portrait)
    expect(page.status).to_have_text("1 face found in astronaut.webp")


def test_a_picture_is_pasted(browser: Browser, stack: FrontDoor, face_file: bytes) -> None:
    """From the real clipboard."""
    with FacetPage(browser, stack.url, permissions=["clipboard-read", "clipboard-write"]) as page:
        page.tab.evaluate(
            """async (bytes) => {
              const picture = new Blob([new Uint8Array(bytes)], { type: "image/png" });
              await navigator.clipboard.write([new ClipboardItem({ "image/png": picture })]);
            }""",
            list(face_file),
        )
        page.tab.keyboard.press("Control+V")
        expect(page.marks).to_have_count(1)
        assert page.complaints == []


def test_the_confidence_is_filtered_without_asking(page: FacetPage, client: httpx.Client, pair: File) -> None:
    """At once; the list, the small picture and the words follow."""
    sure, less = sorted((result["confidence"] for result in post(client, pair)["results"]), reverse=True)
    page.choose(pair)
    expect(page.marks).to_have_count(2)
    asked = len(page.asked)
    slider = page.tab.get_by_label("Confidence, at least")
    slider.fill(f"{(sure + less) / 2:.3f}")
    expect(page.marks).to_have_count(1)
    expect(page.marks.locator("span")).to_have_text(f"{sure:.3f}")
    expect(page.tab.locator("#faces li")).to_have_count(1)
    expect(page.tab.locator("#summary")).to_have_text("1 of 2 faces shown")
    slider.fill("1")
    expect(page.marks).to_have_count(0)
    slider.fill("0.8")
    expect(page.marks).to_have_count(2)
    assert len(page.asked) == asked


def post(client: httpx.Client, file: File) -> dict[str, list[dict[str, float]]]:
    answer: dict[str, list[dict[str, float]]] = client.post(
        "/predict", content=file[2], headers={"Content-Type": file[1]}
    ).json()
    return answer


def test_the_smallest_face_is_asked_again(page: FacetPage, pair: File) -> None:
    """Once, when the slider has come to rest; the confidence is never sent."""
    page.choose(pair)
    expect(page.marks).to_have_count(2)
    slider = page.tab.get_by_label("Smallest face to look for")
    slider.focus()
    for key in ("ArrowRight", "ArrowRight", "End"):
        page.tab.keyboard.press(key)
    expect(slider).to_have_attribute("aria-valuetext", "400 pixels")
    expect(page.status).to_have_text("no faces found in pair.png")
    expect(page.marks).to_have_count(0)
    queries = [request.url.partition("?")[2] for request in page.asked]
    assert queries == ["min_face_size=20", "min_face_size=400"]


def test_an_answer_to_an_outdated_question_is_not_shown(page: FacetPage, portrait: File) -> None:
    """Its request is given up."""
    held: list[Route] = []
    page.tab.route("**/predict?min_face_size=20", lambda route: held.append(route))
    page.choose(portrait)
    expect(page.tab.locator("#stage[data-state=asking]")).to_be_visible()
    with page.tab.expect_event("requestfailed") as given_up:
        page.tab.get_by_label("Smallest face to look for").fill("18")
    assert given_up.value.url.endswith("=20")
    expect(page.status).to_have_text("no faces found in astronaut.webp")
    assert len(held) == 1


def test_five_pictures_are_examined_four_at_a_time(
    page: FacetPage, client: httpx.Client, portrait: File, pair: File, hopper: File, face_file: bytes
) -> None:
    """Each is in the strip with its number of faces, and shown when it is chosen there."""
    files = [portrait, pair, hopper, ("face.png", PNG, face_file), ("again.webp", WEBP, portrait[2])]
    held: list[Route] = []
    page.tab.route("**/predict?*", lambda route: held.append(route))
    page.drop(*files)
    strip = page.tab.get_by_role("list", name="Pictures").get_by_role("button")
    expect(strip).to_have_count(5)
    expect(strip.and_(page.tab.locator("[data-state=asking]"))).to_have_count(4)
    wait_for(lambda: page.let_events_in() or len(held) == 4, "four are asked about", seconds=10)
    expect(strip.and_(page.tab.locator("[data-state=waiting]"))).to_have_count(1)
    page.tab.unroute("**/predict?*")  # which lets them go
    for index, (file, faces) in enumerate(zip(files, (1, 2, 1, 1, 1), strict=True)):
        expect(strip.nth(index)).to_have_accessible_name(f"{file[0]}: {faces} face{'s' if faces > 1 else ''}")
    for index, file in enumerate(files):
        strip.nth(index).click()
        expect(page.tab.locator("#name")).to_have_text(file[0])
        assert_shown(page, answer_for(client, file))
    page.tab.get_by_role("button", name="Remove").click()
    expect(strip).to_have_count(4)


@pytest.mark.parametrize(
    ("form", "orientation"),
    [("JPEG", 3), ("JPEG", 6), ("PNG", 3), ("PNG", 6), *(("WEBP", orientation) for orientation in LAID)],
)
def test_a_picture_is_shown_as_the_service_sees_it(
    page: FacetPage, client: httpx.Client, pair: File, form: str, orientation: int
) -> None:
    """Upright, whether the browser heeds a format's EXIF orientation or not."""
    upright = Image.open(io.BytesIO(pair[2]))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    laid = encode(upright.transpose(LAID[orientation]), form, exif=exif)
    assert ImageOps.exif_transpose(Image.open(io.BytesIO(laid))).size == upright.size
    file = ("laid", f"image/{form.lower()}", laid)
    page.choose(file)
    expect(page.marks).to_have_count(2)
    assert_shown(page, answer_for(client, file))
    wait_for(lambda: difference(shown(page), upright) < 10, "the picture is upright", seconds=10)


def shown(page: FacetPage) -> Image.Image:
    """Give the picture that is on the screen, without the marks."""
    url = page.tab.evaluate("document.querySelector('#view').toDataURL()")
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")


def difference(one: Image.Image, other: Image.Image) -> float:
    """Say by how much two pictures differ, on average, of 255; entirely if they have not the same size."""
    if one.size != other.size:
        return 255
    return max(ImageStat.Stat(ImageChops.difference(one, other)).mean)


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


def test_beside_the_picture_are_times_and_json(page: FacetPage, portrait: File) -> None:
    """The steps in their order, what computed them, and the answer as it came."""
    page.choose(portrait)
    expect(page.tab.locator("#round-trip")).to_contain_text("until the answer was here")
    expect(page.tab.locator("#worker")).to_contain_text("mtcnn on ")
    names = page.tab.locator("#steps th").all_text_contents()
    assert names[0] == "Waiting in line"
    assert all(names.index(one) < names.index(other) for one, other in pairwise(("Waiting in line", "Decoding")))
    page.tab.get_by_text("JSON", exact=True).click()
    expect(page.tab.get_by_role("region", name="The answer as JSON")).to_contain_text('"confidence": 0.999')


def test_pointing_at_a_face_in_the_list_shows_which_it_is(page: FacetPage, pair: File) -> None:
    """So does the keyboard's focus."""
    page.choose(pair)
    entries = page.tab.locator("#faces button")
    entries.nth(1).hover()
    expect(page.tab.locator(".mark.lit")).to_have_attribute("data-face", "2")
    entries.nth(0).focus()
    expect(page.tab.locator(".mark.lit")).to_have_attribute("data-face", "1")


def test_nothing_but_the_page_itself_may_run(browser: Browser, stack: FrontDoor) -> None:
    """An inline script, an inline style and a picture from elsewhere are refused by the browser."""
    with FacetPage(browser, stack.url) as page:
        page.tab.evaluate(
            """() => {
              const script = document.createElement("script");
              script.textContent = "window.ran = true";
              document.body.append(script);
              document.body.setAttribute("style", "margin-top: 99px");
              document.body.append(Object.assign(new Image(), { src: "http://127.0.0.1:9/x.png" }));
            }"""
        )

        def refused() -> set[str]:
            page.let_events_in()
            return {word for word in ("script-src", "style-src", "img-src") if any(word in each for each in page.complaints)}

        wait_for(lambda: len(refused()) == 3, "the browser refuses all three", seconds=10)
        assert page.tab.evaluate("window.ran") is None
        assert page.tab.evaluate("getComputedStyle(document.body).marginTop") == "0px"


def test_the_page_is_revalidated(client: httpx.Client) -> None:
    """A browser that has it is told so; HEAD says the same as GET."""
    first = client.get("/")
    assert (first.status_code, first.headers["Cache-Control"]) == (200, "no-cache")
    again = client.get("/", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    head = client.head("/")
    assert (head.status_code, head.content, head.headers["ETag"]) == (200, b"", first.headers["ETag"])
    for name, kind in (("page.js", "text/javascript"), ("page.css", "text/css"), ("favicon.svg", "image/svg+xml")):
        assert client.get(f"/static/{name}").headers["Content-Type"].startswith(kind)
    missing = client.get("/static/page.py")
    assert (missing.status_code, missing.json()["code"]) == (404, "NOT_FOUND")


def test_the_command_that_is_shown_names_this_address(browser: Browser, stack: FrontDoor) -> None:
    """Also where the browser gives no clipboard, being asked over plain http: then it is selected."""
    port = stack.edge.rpartition(":")[2]
    with FacetPage(browser, f"http://{ELSEWHERE}:{port}") as page:
        command = f"curl -F image=@photo.jpg http://{ELSEWHERE}:{port}/predict"
        expect(page.tab.locator("#curl")).to_have_text(command)
        page.tab.locator("#copy-curl").click()
        expect(page.tab.locator("#copy-curl")).to_have_text("Selected")
        assert page.tab.evaluate("getSelection().toString()") == command
        assert page.complaints == []
