"""The web pages: the files of static/, Swagger UI and openapi.json. Their headers forbid loading from elsewhere."""

from hashlib import sha256
from http import HTTPStatus
from importlib.resources import files

from flask import Blueprint, Response, abort, current_app, request

from web.admission import LARGE_FILE

pages = Blueprint("pages", __name__)


class File:
    """A file to serve, in memory: no name can reach outside the folder, and the ETag follows the content.

    In a container image all files may have the same modification time.
    """

    def __init__(self, name: str, content: bytes) -> None:
        self.content_type = TYPES[name.rpartition(".")[2]]
        self.content = content
        self.etag = sha256(content).hexdigest()[:16]


TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "svg": "image/svg+xml",
}
SWAGGER_UI = [files("flask_swagger_ui") / "dist" / name for name in ("swagger-ui.css", "swagger-ui-bundle.js")]
FILES = {file.name: File(file.name, file.read_bytes()) for file in [*(files("web") / "static").iterdir(), *SWAGGER_UI]}

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Swagger UI has inline styles and icons in data URLs, and shows a drawn image from a blob.
DOCS_POLICY = POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'").replace(
    "img-src 'self'", "img-src 'self' data: blob:"
)
HEADERS = {
    "Permissions-Policy": "camera=(self), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",  # cached but revalidated each time: a new version is visible at once
}


@pages.get("/")
def index() -> Response:
    return _serve(FILES["index.html"])


@pages.get("/docs")
def docs() -> Response:
    return _serve(FILES["docs.html"], DOCS_POLICY)


@pages.get("/openapi.json")
def openapi() -> Response:
    return _serve(current_app.extensions["openapi"])


@pages.get("/static/<name>")
def static(name: str) -> Response:
    return _serve(FILES[name]) if name in FILES else abort(HTTPStatus.NOT_FOUND)


def _serve(file: File, policy: str = POLICY) -> Response:
    """Return a file, or 304 if the client has it. Raises RequestFailed."""
    headers = HEADERS | {"Content-Security-Policy": policy}
    response = Response(file.content, content_type=file.content_type, headers=headers)
    response.set_etag(file.etag)
    response.make_conditional(request)
    if response.status_code == HTTPStatus.OK and request.method != "HEAD" and len(file.content) > LARGE_FILE:
        current_app.extensions["admission"].large_files.hold()
    return response
