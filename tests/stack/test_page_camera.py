"""The page's camera, for which Chromium plays a film."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.conftest import encode
from tests.stack.browser import FacetPage, chromium
from tests.stack.conftest import FrontDoor


@pytest.fixture
def film(tmp_path: Path, astronaut: Image.Image) -> Path:
    """What the camera sees: the astronaut."""
    frame = Image.new("RGB", (640, 480), "grey")
    frame.paste(astronaut.resize((480, 480)), (80, 0))
    path = tmp_path / "camera.mjpeg"
    path.write_bytes(10 * encode(frame, "JPEG", quality=90))
    return path


def test_the_camera_finds_a_face_until_it_is_stopped(stack: FrontDoor, film: Path) -> None:
    """One frame after the other, over the live picture; then the camera is off and nothing is asked any more."""
    arguments = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")
    capture = f"--use-file-for-fake-video-capture={film}"
    with chromium(*arguments, capture) as browser, FacetPage(browser, stack.url) as page:
        page.tab.get_by_role("button", name="Use the camera").click()
        expect(page.tab.locator("#live")).to_be_visible()
        expect(page.status).to_have_text("1 face found in the camera's picture")
        ((left, top, right, bottom),) = page.boxes()
        assert 0.3 < left < right < 0.6
        assert 0.1 < top < bottom < 0.4
        with page.tab.expect_request("**/predict?*"), page.tab.expect_request("**/predict?*"):
            pass  # it goes on
        page.tab.evaluate("window.track = document.querySelector('#live').srcObject.getVideoTracks()[0]")
        expect(page.tab.get_by_role("button", name="Stop the camera")).to_be_focused()
        page.tab.keyboard.press("Enter")
        expect(page.tab.locator("#live")).to_be_hidden()
        assert page.tab.evaluate("window.track.readyState") == "ended"
        expect(page.tab.locator("#camera")).to_be_focused()
        page.tab.evaluate("0")  # events come in
        asked = len(page.asked)
        page.choose(("broken.webp", "image/webp", b"RIFF"))  # time for another frame, which must not come
        expect(page.tab.locator("#stage[data-state=failed]")).to_be_visible()
        assert len(page.asked) == asked + 1
        assert page.complaints == []
