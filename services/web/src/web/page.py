"""The page for people: the files of static/, with headers that let it load nothing from elsewhere."""

from __future__ import annotations

from hashlib import sha256
from importlib.resources import files

from flask import Blueprint, Response, abort, request

page = Blueprint("page", __name__)

TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
# A few tens of kilobytes. From memory, a name can lead nowhere else, and the ETag follows the content: the files of an
# image may all have the same time.
FILES = {file.name: file.read_bytes() for file in (files("web") / "static").iterdir()}
ETAGS = {name: sha256(content).hexdigest()[:16] for name, content in FILES.items()}

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Permissions-Policy": "camera=(self), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",  # kept, but asked for each time: a new version is seen at once
}


@page.get("/")
def index() -> Response:
    """Give the page."""
    return _file("index.html")


@page.get("/static/<name>")
def static(name: str) -> Response:
    """Give a file that the page consists of."""
    return _file(name) if name in FILES else abort(404)


def _file(name: str) -> Response:
    """Answer with a file, or with 304 to who has it already."""
    response = Response(FILES[name], content_type=TYPES[name.rpartition(".")[2]], headers=HEADERS)
    response.set_etag(ETAGS[name])
    response.make_conditional(request)
    return response
