"""The page explains what goes wrong, and continues with everything else."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Route, expect

from tests.stack.browser import ELSEWHERE, FacetPage, File
from tests.stack.conftest import FrontDoor


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (("notes.txt", "text/plain", b"no picture"), "Choose JPEG, PNG or WebP."),
        (("IMG_1.HEIC", "image/heic", b"\0\0\0\x18ftypheic"), "Most Compatible"),
        (("large.png", "image/png", b"\0" * (10 * 1024 * 1024 + 1)), "10.0 MiB, and at most 10 are accepted"),
        (("empty.jpg", "image/jpeg", b""), "This file is empty."),
    ],
)
def test_a_file_that_would_be_refused_is_not_sent(page: FacetPage, file: File, says: str) -> None:
    """The page says what to do instead."""
    page.choose(file)
    expect(page.tab.locator("#summary")).to_contain_text(says)
    expect(page.status).to_contain_text(f"{file[0]}: ")
    assert page.requests == []


def test_a_file_that_has_gone_is_reported(page: FacetPage, face_file: bytes, tmp_path: Path) -> None:
    """It is read whenever it is sent or drawn for a download."""
    path = tmp_path / "face.png"
    path.write_bytes(face_file)
    page.tab.locator("#files").set_input_files(path)
    expect(page.marks).to_have_count(1)
    path.unlink()
    page.tab.get_by_role("button", name="Download").click()
    expect(page.tab.get_by_role("alert")).to_contain_text("This picture cannot be drawn: its file has been moved")
    page.tab.get_by_label("Smallest face to look for").fill("4")
    expect(page.tab.locator("#summary")).to_contain_text("This cannot be read")
    assert len(page.requests) == 1


def test_an_error_of_the_service_is_shown_with_its_message(page: FacetPage, face_file: bytes) -> None:
    """With the request's id; other images are not affected."""
    page.choose(("holiday.jpg", "image/jpeg", b"GIF89a"), ("face.png", "image/png", face_file))
    expect(page.tab.locator("#summary")).to_have_text("GIF is not accepted; send JPEG, PNG or WebP.")
    expect(page.tab.locator("#request")).to_contain_text("Request ")
    strip = page.tab.locator("#strip button")
    expect(strip.nth(0)).to_have_accessible_name("holiday.jpg: failed")
    expect(strip.nth(1)).to_have_accessible_name("face.png: 1 face")
    expect(page.marks).to_have_count(0)
    strip.nth(1).click()
    expect(page.marks).to_have_count(1)
    expect(page.tab.locator("#request")).to_be_hidden()


def test_a_busy_service_is_retried_silently(page: FacetPage, face_file: bytes) -> None:
    """After the time that it names."""
    answers = iter([503, 503])

    def busy_first(route: Route) -> None:
        if next(answers, None):
            body = json.dumps({"message": "all places are taken", "code": "BUSY", "requestId": "1"})
            route.fulfill(status=503, headers={"Retry-After": "1"}, body=body)
        else:
            route.continue_()

    page.tab.route("**/predict?*", busy_first)
    page.choose(("face.png", "image/png", face_file))
    expect(page.marks).to_have_count(1)
    assert len(page.requests) == 3


def test_a_service_that_cannot_be_reached_can_be_tried_again(page: FacetPage, face_file: bytes) -> None:
    """When it is back."""
    page.tab.context.set_offline(True)
    page.choose(("face.png", "image/png", face_file))
    expect(page.tab.locator("#summary")).to_contain_text("The service cannot be reached.")
    page.tab.context.set_offline(False)
    page.tab.get_by_role("button", name="Try again").click()
    expect(page.marks).to_have_count(1)
    expect(page.tab.get_by_role("button", name="Try again")).to_be_hidden()


@pytest.mark.parametrize(
    ("status", "body"),
    [(502, "<h1>Bad gateway</h1>"), (502, '{"error": "Bad gateway"}'), (200, '{"results": []}'), (200, "null")],
)
def test_an_answer_of_another_server_is_an_error(page: FacetPage, face_file: bytes, status: int, body: str) -> None:
    """Such as a proxy's HTML page, or other JSON. The request id is shown if there is one."""
    answer = {"status": status, "body": body, "headers": {"X-Request-ID": "42"}}
    page.tab.route("**/predict?*", lambda route: route.fulfill(**answer))
    page.choose(("face.png", "image/png", face_file))
    expect(page.tab.locator("#summary")).to_contain_text(f"with status {status}, is not from this service")
    expect(page.tab.locator("#request")).to_have_text("Request 42")


def test_the_id_of_an_old_request_is_gone_while_a_new_one_is_under_way(page: FacetPage) -> None:
    """It would name the wrong one."""
    page.choose(("holiday.jpg", "image/jpeg", b"GIF89a"))
    expect(page.tab.locator("#request")).to_be_visible()
    page.tab.route("**/predict?*", lambda _: None)  # it is never answered
    page.tab.get_by_role("button", name="Try again").click()
    expect(page.tab.locator("#stage[data-state=asking]")).to_be_visible()
    expect(page.tab.locator("#request")).to_be_hidden()


def test_a_camera_that_the_browser_does_not_allow_is_explained(browser: Browser, stack: FrontDoor) -> None:
    """Over plain HTTP from a host other than localhost."""
    with FacetPage(browser, f"http://{ELSEWHERE}:{stack.edge.rpartition(':')[2]}") as page:
        page.tab.get_by_role("button", name="Use the camera").click()
        expect(page.tab.get_by_role("alert")).to_contain_text("only on pages from https or localhost")
        assert page.errors == []


def test_a_camera_that_is_not_there_is_explained(page: FacetPage) -> None:
    """So is one that is not allowed, as here."""
    page.tab.get_by_role("button", name="Use the camera").click()
    expect(page.tab.get_by_role("alert")).to_contain_text("Choose pictures instead.")
    expect(page.tab.locator("#work")).to_be_hidden()
