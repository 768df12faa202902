"""The page's camera; Chromium plays a film in its place."""

from collections.abc import Iterator

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Browser, expect

from tests.conftest import encode
from tests.stack.browser import CAMERA, FacetPage, File, chromium


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, astronaut: Image.Image) -> Iterator[Browser]:
    """Chromium with a camera that shows the astronaut."""
    frame = Image.new("RGB", (640, 480), "gray")
    frame.paste(astronaut.resize((480, 480)), (80, 0))
    film = tmp_path_factory.mktemp("camera") / "film.mjpeg"
    film.write_bytes(10 * encode(frame, "JPEG", quality=90))
    with chromium(*CAMERA, f"--use-file-for-fake-video-capture={film}") as running:
        yield running


def start(page: FacetPage) -> None:
    """Start the camera, and wait until its face is found."""
    page.tab.get_by_role("button", name="Use the camera").click()
    expect(page.tab.locator("#live")).to_be_visible()
    expect(page.status).to_have_text("1 face found in the camera's picture")


def wait_for_frames(page: FacetPage) -> None:
    """Wait for another two frames."""
    asked = len(page.requests)
    page.wait_for(lambda: len(page.requests) >= asked + 2, "the camera continues")


def assert_nothing_is_sent(page: FacetPage, client: httpx.Client, file: File) -> None:
    """While the service examines ten images of a frame's size; one frame may have been in transit."""
    page.tab.evaluate("0")  # processes events
    asked = len(page.requests)
    for _ in range(10):
        client.post("/predict", content=file[2], headers={"Content-Type": file[1]})
    page.tab.evaluate("fetch('/readyz')")
    assert len(page.requests) <= asked + 1


def test_the_camera_finds_a_face_until_it_is_stopped(page: FacetPage, client: httpx.Client, hopper: File) -> None:
    """One frame after another, on the live video; afterwards the camera is off and nothing is sent."""
    start(page)
    ((left, top, right, bottom),) = page.boxes()
    assert 0.3 < left < right < 0.6
    assert 0.1 < top < bottom < 0.4
    wait_for_frames(page)
    page.tab.evaluate("window.track = document.querySelector('#live').srcObject.getVideoTracks()[0]")
    expect(page.tab.get_by_role("button", name="Stop the camera")).to_be_focused()
    page.tab.keyboard.press("Enter")
    expect(page.tab.locator("#live")).to_be_hidden()
    assert page.tab.evaluate("window.track.readyState") == "ended"
    expect(page.tab.locator("#camera")).to_be_focused()
    assert_nothing_is_sent(page, client, hopper)


def test_nothing_is_sent_while_the_page_is_hidden(page: FacetPage, client: httpx.Client, hopper: File) -> None:
    """It continues when the page is visible again. Playwright cannot hide a tab, so the page is only told so."""
    hide = """hidden => {
      Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    start(page)
    page.tab.evaluate(hide, arg=True)
    assert_nothing_is_sent(page, client, hopper)
    page.tab.evaluate(hide, arg=False)
    wait_for_frames(page)


def test_a_prompt_that_is_denied_too_late_has_no_effect(page: FacetPage, portrait: File) -> None:
    """Meanwhile an image was chosen and the camera started again. The prompts are a stand-in."""
    page.tab.evaluate(
        """() => {
          const devices = navigator.mediaDevices;
          const open = devices.getUserMedia.bind(devices);
          devices.getUserMedia = (wish) => new Promise((_, refuse) => {
            window.refuse = () => refuse(new DOMException("too late", "NotAllowedError"));
            devices.getUserMedia = open;
          });
        }"""
    )
    page.tab.get_by_role("button", name="Use the camera").click()
    page.choose(portrait)
    expect(page.marks).to_have_count(1)
    start(page)
    page.tab.evaluate("window.refuse()")
    wait_for_frames(page)
    expect(page.tab.get_by_role("alert")).to_be_hidden()


def test_an_unexpected_camera_error_is_explained(page: FacetPage) -> None:
    """The browser's own error goes to the console."""
    page.tab.evaluate("navigator.mediaDevices.getUserMedia = async () => 'no stream'")
    page.tab.get_by_role("button", name="Use the camera").click()
    expect(page.tab.get_by_role("alert")).to_have_text("The camera cannot be used. Choose pictures instead.")
    page.wait_for(lambda: len(page.errors) == 1, "the console has the error")
    assert "TypeError" in page.errors.pop()
