"""The pages for people, the files of static/ and of Swagger UI. Headers let them load nothing from elsewhere."""

from __future__ import annotations

from hashlib import sha256
from http import HTTPStatus
from importlib.resources import files

from flask import Blueprint, Response, abort, current_app, jsonify, request

from web.admission import LARGE_FILE
from web.openapi import describe

pages = Blueprint("pages", __name__)

TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
SWAGGER_UI = [files("flask_swagger_ui") / "dist" / name for name in ("swagger-ui.css", "swagger-ui-bundle.js")]
# Two megabytes. From memory, a name can lead nowhere else, and the ETag follows the content: the files of an image may
# all have the same time.
FILES = {file.name: file.read_bytes() for file in [*(files("web") / "static").iterdir(), *SWAGGER_UI]}
ETAGS = {name: sha256(content).hexdigest()[:16] for name, content in FILES.items()}

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Swagger UI has styles in its elements and icons in data URLs, and shows a drawn picture from a blob.
DOCS_POLICY = POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'").replace(
    "img-src 'self'", "img-src 'self' data: blob:"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Permissions-Policy": "camera=(self), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",  # kept, but asked for each time: a new version is seen at once
}


@pages.get("/")
def index() -> Response:
    """Give the page that finds the faces in dropped pictures."""
    return _file("index.html")


@pages.get("/docs")
def docs() -> Response:
    """Give the API's description as a page to read it and to try it out."""
    return _file("docs.html", DOCS_POLICY)


@pages.get("/openapi.json")
def openapi() -> Response:
    """Give the API's description."""
    return jsonify(describe(current_app))


@pages.get("/static/<name>")
def static(name: str) -> Response:
    """Give a file that the pages consist of."""
    return _file(name) if name in FILES else abort(404)


def _file(name: str, policy: str = POLICY) -> Response:
    """Answer with a file, or with 304 to who has it already."""
    headers = HEADERS | {"Content-Security-Policy": policy}
    response = Response(FILES[name], content_type=TYPES[name.rpartition(".")[2]], headers=headers)
    response.set_etag(ETAGS[name])
    response.make_conditional(request)
    if response.status_code == HTTPStatus.OK and request.method != "HEAD" and len(FILES[name]) > LARGE_FILE:
        current_app.extensions["admission"].large_files.hold()
    return response
