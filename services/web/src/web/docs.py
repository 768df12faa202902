"""`/openapi.json`, and `/docs`: its pages for people, which load nothing from elsewhere."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from flask import Blueprint, Response, abort, current_app, jsonify, send_file

from web.openapi import describe

docs = Blueprint("docs", __name__)

OURS = Path(str(files("web"))) / "static"
SWAGGER_UI = Path(str(files("flask_swagger_ui"))) / "dist"
PARTS = {"docs.js": OURS, "swagger-ui.css": SWAGGER_UI, "swagger-ui-bundle.js": SWAGGER_UI}
# Swagger UI sets styles of its own and has its icons as data URLs.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@docs.get("/openapi.json")
def openapi() -> Response:
    """Give the description of the API."""
    return jsonify(describe(current_app))


@docs.get("/docs")
def page() -> Response:
    """Give the description as a page to try it out on."""
    response = send_file(OURS / "docs.html")
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


@docs.get("/docs/<name>")
def part(name: str) -> Response:
    """Give a part of the page."""
    if name not in PARTS:
        abort(404)
    return send_file(PARTS[name] / name)
