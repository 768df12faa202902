"""The API's description is true, whatever is sent."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from playwright.sync_api import Browser

from tests.stack.browser import FacetPage, File
from tests.stack.conftest import FrontDoor
from tests.stack.running import ROOT, wait_for

CONFIG = ROOT / "tests/stack/schemathesis.toml"


def test_requests_are_answered_as_described(stack: FrontDoor, tmp_path: Path) -> None:
    """Schemathesis sends what the description allows and what it forbids, and finds no issue."""
    schemathesis = Path(sys.executable).with_name("st")
    done = subprocess.run(
        [schemathesis, f"--config-file={CONFIG}", "run", "--max-examples=100", f"{stack.url}/openapi.json"],
        cwd=tmp_path,  # it writes its findings there
        env=os.environ | {"SCHEMATHESIS_HOOKS": "tests.stack.schemathesis_hooks", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Selected: 5/5" in done.stdout
    assert "No issues found" in done.stdout


def test_the_page_loads_everything_from_the_service(client: httpx.Client) -> None:
    """Its policy forbids anything from elsewhere, and its files exist."""
    page = client.get("/docs")
    assert page.status_code == 200
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'; script-src 'self';" in page.headers["Content-Security-Policy"]
    for part in ("docs.js", "swagger-ui-bundle.js", "swagger-ui.css"):
        assert f'"/static/{part}"' in page.text
        assert client.get(f"/static/{part}").status_code == 200
    assert client.get("/static/VERSION").status_code == 404


def test_its_large_files_are_rate_limited(client: httpx.Client) -> None:
    """Too many requests for them are refused, other requests are not; a second later they are served again."""
    large = "/static/swagger-ui-bundle.js"

    def refused() -> list[httpx.Response]:
        with ThreadPoolExecutor(16) as callers:
            answers = list(callers.map(lambda _: client.head(large), range(100)))
        assert {answer.status_code for answer in answers} <= {200, 429}
        return [answer for answer in answers if answer.status_code == 429]

    answer = wait_for(refused, "requests are refused")[0]
    assert (answer.headers["Retry-After"], answer.headers["Content-Type"]) == ("1", "application/json")
    assert client.get("/static/page.js").status_code == 200
    wait_for(lambda: client.get(large).status_code == 200, "it is served again")


def test_the_page_tries_out_the_api(browser: Browser, stack: FrontDoor, portrait: File) -> None:
    """In a browser: a file is chosen and sent, and its answer shown, without an error or a request to elsewhere."""
    name, kind, content = portrait
    with FacetPage(browser, f"{stack.url}/docs") as page:
        page.tab.locator("#operations-pictures-annotate button.opblock-summary-control").click()
        annotate = page.tab.locator("#operations-pictures-annotate")
        annotate.locator("input[type=file]").set_input_files({"name": name, "mimeType": kind, "buffer": content})
        annotate.get_by_role("button", name="Execute").click()
        drawn = annotate.locator(".live-responses-table img")
        drawn.wait_for()
        assert drawn.evaluate("async (image) => (await image.decode(), image.naturalWidth)") == 512
        assert page.errors == []
