"""A browser on the page; console errors and requests to other servers fail the test."""

import base64
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request, expect, sync_playwright

from tests.stack.running import SECONDS, wait_for

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
File = tuple[str, str, bytes]  # name, type, content
CAMERA = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")  # without asking for permission
ELSEWHERE = "facet.test"  # a name for this machine that is not localhost: plain http from there is not trusted

expect.set_options(timeout=1000 * SECONDS)


@contextmanager
def chromium(*arguments: str) -> Iterator[Browser]:
    """Run the system's Chromium."""
    if CHROMIUM is None:
        reason = "there is no Chromium: apt-get install chromium"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    resolve = f"--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[resolve, *arguments])
        try:
            yield browser
        finally:
            browser.close()


class FacetPage:
    """The page in a new tab."""

    def __init__(self, browser: Browser, url: str, **context: Any) -> None:
        self.url = url
        self._context = browser.new_context(**context)
        self._context.set_default_timeout(1000 * SECONDS)
        self.tab: Page = self._context.new_page()
        self.requests: list[Request] = []
        self.errors: list[str] = []
        self.tab.on("console", self._console_message)
        self.tab.on("pageerror", lambda error: self.errors.append(str(error)))
        self.tab.on("request", self._request)
        self.tab.goto(url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.close()

    def choose(self, *files: File) -> None:
        """Select files with the file input."""
        payload: Any = [{"name": name, "mimeType": kind, "buffer": content} for name, kind, content in files]
        self.tab.locator("#files").set_input_files(payload)

    def drop(self, *files: File) -> None:
        """Drop files on the page."""
        transfer = self.tab.evaluate_handle(
            """files => {
              const transfer = new DataTransfer();
              for (const [name, type, content] of files) {
                const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
                transfer.items.add(new File([bytes], name, { type }));
              }
              return transfer;
            }""",
            [[name, kind, base64.b64encode(content).decode()] for name, kind, content in files],
        )
        for event in ("dragenter", "dragover", "drop"):
            self.tab.dispatch_event("main", event, {"dataTransfer": transfer})

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition on the events that the browser has reported."""

        def holds() -> bool:
            self.tab.evaluate("0")  # Playwright delivers events during a call
            return condition()

        wait_for(holds, what)

    @property
    def status(self) -> Locator:
        """The status for screen readers."""
        return self.tab.locator("#status[role=status]")

    @property
    def marks(self) -> Locator:
        """The boxes on the image."""
        return self.tab.locator(".mark")

    def boxes(self) -> list[tuple[float, ...]]:
        """Return the boxes on the screen: (left, top, right, bottom) relative to the size of the image."""
        found = self.tab.evaluate(
            """() => {
              const frame = document.querySelector("#frame").getBoundingClientRect();
              return [...document.querySelectorAll(".mark")].map(mark => mark.getBoundingClientRect()).map(box => [
                (box.left - frame.left) / frame.width,
                (box.top - frame.top) / frame.height,
                (box.right - frame.left) / frame.width,
                (box.bottom - frame.top) / frame.height,
              ]);
            }"""
        )
        return [tuple(shares) for shares in found]

    def _console_message(self, message: ConsoleMessage) -> None:
        # The browser logs every failed request, even if the page handles it. Expected are error responses to images and
        # network errors while a test is offline.
        expected = "/predict" in message.location["url"] or "net::ERR_" in message.text
        expected_failure = "Failed to load resource" in message.text and expected
        if message.type in ("error", "warning") and not expected_failure:
            self.errors.append(message.text)

    def _request(self, request: Request) -> None:
        if "/predict" in request.url:
            self.requests.append(request)
        if not request.url.startswith("blob:") and urlsplit(request.url)[:2] != urlsplit(self.url)[:2]:
            self.errors.append(f"the page loads {request.url}")


def as_shares(answer: dict[str, Any]) -> list[tuple[float, ...]]:
    """Return the boxes of a response in the form of `FacetPage.boxes`."""
    width, height = answer["width"], answer["height"]
    corners = [(result["box"]["upLeft"], result["box"]["lowerRight"]) for result in answer["results"]]
    return [(a["x"] / width, a["y"] / height, b["x"] / width, b["y"] / height) for a, b in corners]
