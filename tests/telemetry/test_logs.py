"""Each line of the log is one JSON object with the ids of its request, and with the fields of its process."""

import json
import subprocess
import sys

from flask import Response
from web.app import create_app
from web.settings import Settings

from telemetry.logs import request_id

PROGRAM = """
import logging, warnings
from telemetry import logs
logs.configure("INFO", tier="inference", part="worker 0", worker="7f3a")
log = logging.getLogger("any")
log.debug("too detailed")
logs.request_id.set("a-1")
log.info("first", extra={"faces": 2})
logs.trace_id.set("4bf9")
warnings.warn("of Python")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("second\\nof two lines")
"""


def test_a_line_is_one_json_object() -> None:
    """Python's warnings and exceptions with a traceback are such lines too. Nothing goes to stderr."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    first, warning, second = map(json.loads, done.stdout.splitlines())
    assert (first["level"], first["message"], first["faces"]) == ("INFO", "first", 2)
    assert (warning["level"], second["level"], second["message"]) == ("WARNING", "ERROR", "second\nof two lines")
    assert "ZeroDivisionError" in second["exc_info"]
    assert "trace_id" not in first
    for line in (first, warning, second):
        assert (line["tier"], line["part"], line["worker"], line["request_id"]) == (
            "inference",
            "worker 0",
            "7f3a",
            "a-1",
        )
        assert line["ts"]
    assert warning["trace_id"] == second["trace_id"] == "4bf9"


def test_the_id_ends_with_its_request() -> None:
    """Later lines of gunicorn on the same thread, such as one about a broken connection, have no id."""
    app = create_app(Settings(inference_target="127.0.0.1:1"))
    ids = []

    @app.after_request
    def note(response: Response) -> Response:
        ids.append(request_id.get())
        return response

    assert app.test_client().get("/healthz", headers={"X-Request-ID": "a-1"}).status_code == 200
    assert (ids, request_id.get()) == (["a-1"], "")
