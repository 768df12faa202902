"""How gunicorn runs the gateway: `gunicorn --config services/web/gunicorn.conf.py`."""

import math
import os
import shutil
import sys

from gunicorn.glogging import Logger
from gunicorn.http import wsgi
from pydantic import ValidationError
from web.draining import drain_before_stopping
from web.settings import Settings
from web.single_write import SingleWrite

from telemetry import logs, metrics
from telemetry.settings import unknown_variables

try:
    settings = Settings()
except ValidationError as error:
    sys.exit(Settings.format_errors(error))

wsgi_app = "web.app:create_app()"
bind = [f"{settings.web_host}:{settings.web_port}", f"{settings.web_host}:{settings.web_metrics_port}"]
worker_class = "gthread"
workers = settings.web_processes
threads = settings.web_threads
wsgi.Response = SingleWrite  # headers and body in one write: a killed process leaves no half response
preload_app = False  # a gRPC channel made before the fork would hang after it
keepalive = 75  # longer than Envoy's idle timeout, so that Envoy never reuses a connection that is being closed
timeout = 30  # a process without a heartbeat is replaced; a long request has its own thread and delays none
graceful_timeout = math.ceil(settings.grace_seconds - settings.drain_seconds)
limit_request_line = 0  # no limit: Envoy rejects headers above 16 KiB, in the form of all other errors
limit_request_field_size = 16384
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108, PTH112 - a disk can delay heartbeats
control_socket_disable = True  # unused, and it needs a writable home directory
logconfig_dict = {
    **logs.config(settings.log_level, tier="web"),
    "loggers": {"gunicorn.error": {"propagate": True, "handlers": []}},  # by default gunicorn adds its own handler
}


class NoAccessLog(Logger):
    """gunicorn's logger without its access log: the application logs each request, with its id.

    Otherwise gunicorn formats an access log line for each request and discards it, which took a twentieth of the
    gateway's CPU time.
    """

    access_log_enabled = False


logger_class = NoAccessLog
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"  # nothing of gRPC exists at the fork


def on_starting(server):  # noqa: ANN001, ANN201 - gunicorn's hook
    """Warn about misspelt variables."""
    for sentence in unknown_variables():
        server.log.warning(sentence)


def when_ready(server):  # noqa: ANN001, ANN201 - gunicorn's hook
    """Prepare what lasts. gunicorn calls this once; it executes the rest of this file on every SIGHUP."""
    server.metrics_folder = metrics.make_folder()
    drain_before_stopping(server, settings.drain_seconds)


def child_exit(server, worker):  # noqa: ANN001, ANN201, ARG001 - gunicorn's hook
    """Drop the gauges of a process that has ended."""
    from prometheus_client import multiprocess  # noqa: PLC0415 - only after the folder is made, see telemetry.metrics

    multiprocess.mark_process_dead(worker.pid)


def worker_exit(server, worker):  # noqa: ANN001, ANN201, ARG001 - gunicorn's hook
    """Send the remaining spans of a process that has started its application."""
    app = getattr(worker, "wsgi", None)
    if app and app.extensions["traces"]:
        app.extensions["traces"].close()


def on_exit(server):  # noqa: ANN001, ANN201 - gunicorn's hook
    """Remove the folder of the counts."""
    shutil.rmtree(server.metrics_folder, ignore_errors=True)
