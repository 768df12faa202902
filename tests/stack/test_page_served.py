"""How the page is served, and what it may not do."""

from functools import partial

import httpx
from playwright.sync_api import Browser, expect

from tests.stack.browser import ELSEWHERE, FacetPage
from tests.stack.conftest import FrontDoor


def test_only_the_page_itself_may_run(browser: Browser, stack: FrontDoor) -> None:
    """The browser refuses an inline script, an inline style and an image from elsewhere."""
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

        def refused(directive: str) -> bool:
            return any(directive in error for error in page.errors)

        for directive in ("script-src", "style-src", "img-src"):
            page.wait_for(partial(refused, directive), f"{directive} is enforced")
        assert page.tab.evaluate("window.ran") is None
        assert page.tab.evaluate("getComputedStyle(document.body).marginTop") == "0px"


def test_the_page_is_revalidated(client: httpx.Client) -> None:
    """A browser with a current copy gets 304; HEAD has the headers of GET."""
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


def test_the_command_has_the_address_of_this_service(browser: Browser, stack: FrontDoor) -> None:
    """Over plain HTTP the browser offers no clipboard; then the command is selected."""
    port = stack.edge.rpartition(":")[2]
    with FacetPage(browser, f"http://{ELSEWHERE}:{port}") as page:
        command = f"curl -F image=@photo.jpg http://{ELSEWHERE}:{port}/predict"
        expect(page.tab.locator("#curl")).to_have_text(command)
        page.tab.locator("#copy-curl").click()
        expect(page.tab.locator("#copy-curl")).to_have_text("Selected")
        assert page.tab.evaluate("getSelection().toString()") == command
        assert page.errors == []
