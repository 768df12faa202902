"""A browser on the page; console errors and requests to other servers fail the test."""

from __future__ import annotations

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
CAMERA = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")  # and leave to use it
ELSEWHERE = "facet.test"  # a name for this machine that is not localhost: plain http from there is not trusted

expect.set_options(timeout=1000 * SECONDS)


@contextmanager
def chromium(*arguments: str) -> Iterator[Browser]:
    """Start the system's Chromium, and stop it."""
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
    """The page in a tab of its own."""

    def __init__(self, browser: Browser, url: str, **context: Any) -> None:
        self.url = url
        self._context = browser.new_context(**context)
        self._context.set_default_timeout(1000 * SECONDS)
        self.tab: Page = self._context.new_page()
        self.asked: list[Request] = []
        self.complaints: list[str] = []
        self.tab.on("console", self._said)
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("request", self._requested)
        self.tab.goto(url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.close()

    def choose(self, *files: File) -> None:
        """Choose files with the button."""
        payload: Any = [{"name": name, "mimeType": kind, "buffer": content} for name, kind, content in files]
        self.tab.locator("#files").set_input_files(payload)

    def drop(self, *files: File) -> None:
        """Let files fall on the page."""
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
        """Wait until a condition is true of what the browser has told us."""

        def told() -> bool:
            self.tab.evaluate("0")  # events come in while the browser is asked something
            return condition()

        wait_for(told, what)

    @property
    def status(self) -> Locator:
        """What a screen reader says."""
        return self.tab.locator("#status[role=status]")

    @property
    def marks(self) -> Locator:
        """The boxes on the picture."""
        return self.tab.locator(".mark")

    def boxes(self) -> list[tuple[float, ...]]:
        """Where the boxes are on the screen: (left, top, right, bottom) as shares of the picture."""
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

    def _said(self, message: ConsoleMessage) -> None:
        # The browser notes every request that fails, whatever the page makes of it. Expected are errors that answer a
        # picture, and that nothing comes, not even the page's icon, while a test takes the network away.
        expected = "/predict" in message.location["url"] or "net::ERR_" in message.text
        noted = "Failed to load resource" in message.text and expected
        if message.type in ("error", "warning") and not noted:
            self.complaints.append(message.text)

    def _requested(self, request: Request) -> None:
        if "/predict" in request.url:
            self.asked.append(request)
        if not request.url.startswith("blob:") and urlsplit(request.url)[:2] != urlsplit(self.url)[:2]:
            self.complaints.append(f"it loads {request.url}")


def as_shares(answer: dict[str, Any]) -> list[tuple[float, ...]]:
    """Give the boxes of the service's answer as `FacetPage.boxes` does."""
    width, height = answer["width"], answer["height"]
    corners = [(result["box"]["upLeft"], result["box"]["lowerRight"]) for result in answer["results"]]
    return [(a["x"] / width, a["y"] / height, b["x"] / width, b["y"] / height) for a, b in corners]
