"""The page is accessible: by keyboard, on a phone, in the dark scheme, with a screen reader."""

from collections.abc import Callable, Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from tests.stack.browser import CAMERA, FacetPage, chromium
from tests.stack.conftest import FrontDoor

TARGET = 44  # pixels a side, for a finger

LUMINANCE = """() => {
  const canvas = document.createElement("canvas").getContext("2d");
  canvas.fillStyle = getComputedStyle(document.body).backgroundColor;
  canvas.fillRect(0, 0, 1, 1);
  return canvas.getImageData(0, 0, 1, 1).data[1];
}"""
TOO_SMALL = f"""() => [...document.querySelectorAll("button, .button, nav a, input[type=range], summary")]
  .filter(element => element.checkVisibility())
  .map(element => [element.id || element.className, element.getBoundingClientRect()])
  .filter(([, box]) => box.width < {TARGET} || box.height < {TARGET})
  .map(([name, box]) => `${{name}} ${{box.width}} x ${{box.height}}`)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium with a camera."""
    with chromium(*CAMERA) as running:
        yield running


def nothing(page: FacetPage, _: bytes) -> None:
    """Leave the page as it opens."""
    expect(page.tab.get_by_role("heading", name="Find the faces in a picture")).to_be_visible()


def results(page: FacetPage, astronaut: bytes) -> None:
    """Show two images and open the JSON."""
    page.choose(*[(f"a-portrait-with-a-name-longer-than-the-screen-{n}.webp", "image/webp", astronaut) for n in (1, 2)])
    expect(page.tab.locator("#strip [data-state=done]")).to_have_count(2)
    page.tab.get_by_text("JSON", exact=True).click()


def failure(page: FacetPage, _: bytes) -> None:
    """Show an error of the service and one of the page."""
    page.choose(("holiday.jpg", "image/jpeg", b"GIF89a"))
    expect(page.tab.locator("#request")).to_be_visible()
    page.drop()
    expect(page.tab.get_by_role("alert")).to_be_visible()


def asking(page: FacetPage, astronaut: bytes) -> None:
    """Show four images that are being examined and one that waits."""
    page.tab.route("**/predict?*", lambda _: None)  # never answered
    page.choose(*[(f"{number}.webp", "image/webp", astronaut) for number in range(5)])
    expect(page.tab.locator("#strip [data-state=waiting]")).to_have_count(1)
    page.tab.locator("#strip button").last.click()
    expect(page.tab.locator("#summary")).to_have_text("Waiting…")


def live(page: FacetPage, _: bytes) -> None:
    """Start the camera."""
    page.tab.get_by_role("button", name="Use the camera").click()
    expect(page.tab.locator("#live")).to_be_visible()
    expect(page.tab.locator("#stage[data-state=done]")).to_be_visible()


STATES = [nothing, results, failure, asking, live]
State = Callable[[FacetPage, bytes], None]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(
    browser: Browser, stack: FrontDoor, astronaut_file: bytes, scheme: str, state: State
) -> None:
    """In both schemes and in every state; the dark scheme is dark."""
    with FacetPage(browser, stack.url, color_scheme=scheme, reduced_motion="reduce") as page:
        state(page, astronaut_file)
        found = Axe().run(page.tab)
        assert found.violations_count == 0, found.generate_report()
        assert (page.tab.evaluate(LUMINANCE) < 64) is (scheme == "dark")
        assert page.errors == []


@pytest.mark.parametrize("state", STATES)
def test_it_fits_a_narrow_screen(browser: Browser, stack: FrontDoor, astronaut_file: bytes, state: State) -> None:
    """320 pixels wide, or 640 at a zoom of 200 %; controls are large enough for a finger."""
    with FacetPage(browser, stack.url, viewport={"width": 320, "height": 640}, has_touch=True) as page:
        state(page, astronaut_file)
        assert page.tab.evaluate("document.documentElement.scrollWidth") == 320
        assert page.tab.evaluate(TOO_SMALL) == []
        assert page.errors == []


def test_everything_can_be_reached_by_keyboard(page: FacetPage, astronaut_file: bytes) -> None:
    """In visual order, with a visible focus, and out of the page again."""
    with page.tab.expect_file_chooser():
        page.tab.evaluate("0")  # Playwright is listening when this is answered
        page.tab.locator("#files").press("Enter")
    results(page, astronaut_file)
    page.tab.locator("h1").click()  # starts from here
    reached = []
    for _ in range(30):
        page.tab.keyboard.press("Tab")
        name, seen = page.tab.evaluate(
            """() => {
              const it = document.activeElement;
              const shown = it.id === "files" ? it.nextElementSibling : it;
              const part = it.closest("[id], header, footer") ?? it;
              const name = part.id || part.localName;
              return [name, getComputedStyle(shown).outlineStyle !== "none"];
            }"""
        )
        if name == "body":
            break
        assert seen, name
        reached.append(name)
    assert list(dict.fromkeys(reached)) == [
        *("header", "files", "camera", "strip", "download", "remove", "confidence", "size", "faces", "json", "copy"),
        *("curl", "copy-curl", "footer"),
    ]


def test_the_focus_is_never_lost(page: FacetPage, astronaut_file: bytes) -> None:
    """When the focused element is hidden, the image's name or the button for the next image gets the focus."""
    page.choose(("one.webp", "image/webp", astronaut_file))
    expect(page.tab.locator("#name")).to_be_focused()
    expect(page.marks).to_have_count(1)
    page.tab.locator("#remove").focus()
    page.tab.keyboard.press("Enter")
    expect(page.tab.locator("#files")).to_be_focused()
    expect(page.tab.get_by_role("heading", name="Find the faces in a picture")).to_be_visible()
    live(page, astronaut_file)
    expect(page.tab.locator("#stop")).to_be_focused()
    page.tab.context.set_offline(True)
    expect(page.tab.get_by_role("alert")).to_contain_text("The service cannot be reached.")
    expect(page.tab.locator("#camera")).to_be_focused()
    page.choose(("one.webp", "image/webp", astronaut_file))
    page.tab.get_by_role("button", name="Try again").press("Enter")
    expect(page.tab.locator("#name")).to_be_focused()
