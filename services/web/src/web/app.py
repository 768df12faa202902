"""The application and what it consists of."""

import logging
import re
import time
import uuid
from http import HTTPStatus

from flask import Flask, Response, g, request

from telemetry.logs import request_id, trace_id
from web.admission import Admission
from web.errors import register_error_handlers
from web.image_request import BoundedRequest
from web.inference_client import InferenceClient
from web.metrics import IN_FLIGHT, REQUESTS, SECONDS, metrics_on_port
from web.openapi import describe
from web.pages import File, pages
from web.routes import PROBES, api
from web.settings import Settings

log = logging.getLogger("web")

LOGGED = 256  # characters of a path in the log
# What is valid in a log line, a header and gRPC metadata; Envoy applies the same rule, see envoy.yaml.
REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


def create_app(settings: Settings | None = None) -> Flask:
    """Create the gateway, in each gunicorn process after the fork: a gRPC channel does not survive one."""
    settings = settings or Settings()
    app = Flask("web", static_folder=None)
    app.request_class = BoundedRequest
    app.config["SETTINGS"] = settings
    app.json.sort_keys = False  # type: ignore[attr-defined]  # in the order that the documents show
    # The whole body is bounded; a form field may be as large as the file it should have been.
    app.config["MAX_FORM_MEMORY_SIZE"] = settings.max_body_bytes
    traces = None
    if settings.traces:
        from web.traces import Traces  # noqa: PLC0415 - traces that are off cost nothing

        traces = Traces()
    app.extensions["traces"] = traces
    app.extensions["inference"] = InferenceClient(settings.inference_target, [traces] if traces else [])
    app.register_blueprint(api)
    app.register_blueprint(pages)
    openapi = app.json.dumps(describe(app), separators=(",", ":"))
    app.extensions["openapi"] = File("openapi.json", openapi.encode())
    register_error_handlers(app)
    app.before_request(_begin)
    app.extensions["admission"] = Admission(app, settings)
    app.after_request(_end)
    app.teardown_request(_leave)
    if traces:
        traces.watch(app)
    app.wsgi_app = metrics_on_port(settings.web_metrics_port, app.wsgi_app)  # type: ignore[assignment,method-assign]
    return app


def _begin() -> None:
    g.arrived = time.monotonic()
    given = request.headers.get("X-Request-ID", "")
    g.request_id = given if REQUEST_ID.fullmatch(given) else str(uuid.uuid4())
    request_id.set(g.request_id)
    trace_id.set("")
    IN_FLIGHT.inc()


def _end(response: Response) -> Response:
    seconds = time.monotonic() - g.arrived
    route = request.url_rule.rule if request.url_rule else "none"
    REQUESTS.labels(route, request.method, response.status_code).inc()
    SECONDS.labels(route).observe(seconds)
    response.headers["X-Request-ID"] = g.request_id
    log.log(
        logging.DEBUG if _is_routine(response) else logging.INFO,
        "request",
        extra={
            "method": request.method,
            "path": request.path[:LOGGED],
            "status": response.status_code,
            "code": g.get("code", ""),
            "bytes_in": request.content_length,
            "ms": round(1000 * seconds, 1),
        },
    )
    return response


def _leave(_error: BaseException | None) -> None:
    """Count the request as over, whatever happened, and keep its ids out of what gunicorn logs on this thread later."""
    IN_FLIGHT.dec()
    request_id.set("")
    trace_id.set("")


def _is_routine(response: Response) -> bool:
    """Whether it answers a probe or serves a file of a page."""
    found = response.status_code < HTTPStatus.BAD_REQUEST
    return request.endpoint in PROBES or (request.blueprint == "pages" and found)
