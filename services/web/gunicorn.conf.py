"""How gunicorn runs the gateway: `gunicorn --config services/web/gunicorn.conf.py`."""

import os
import shutil
import sys
import tempfile

from gunicorn.glogging import Logger
from gunicorn.http import wsgi
from pydantic import ValidationError
from web.settings import Settings
from web.single_write import SingleWrite

from telemetry import logs

try:
    settings = Settings()
except ValidationError as error:
    sys.exit(Settings.format_errors(error))

wsgi_app = "web.app:create_app()"
bind = [f"{settings.web_host}:{settings.web_port}", f"{settings.web_host}:{settings.web_metrics_port}"]
worker_class = "gthread"
workers = settings.web_processes
threads = settings.web_threads
wsgi.Response = SingleWrite  # headers and body in one write: no half answers from a process that is killed
preload_app = False  # a gRPC channel made before the fork would hang after it
keepalive = 75  # above Envoy's idle timeout upstream, else Envoy reuses a connection that is just being closed
timeout = 30  # a process that is silent for so long is replaced; requests do not count, they have threads
graceful_timeout = int(settings.grace_seconds)
limit_request_line = 0  # no limit: Envoy takes 16 KiB of headers, and refuses more in the form of all other errors
limit_request_field_size = 16384
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108, PTH112 - a heartbeat on a disk can stall
control_socket_disable = True  # nothing of ours uses it, and it wants a writable home
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


# Each process keeps its counts in a file here, and whichever is asked for /metrics sums them up.
_counts = tempfile.mkdtemp(prefix="facet-metrics-")
os.environ["PROMETHEUS_MULTIPROC_DIR"] = _counts
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"  # nothing of gRPC exists at the fork


def child_exit(server, worker):  # noqa: ANN001, ANN201, ARG001 - gunicorn's hook
    """Drop the gauges of a process that has ended."""
    from prometheus_client import multiprocess  # noqa: PLC0415 - imported before, it would not know the folder

    multiprocess.mark_process_dead(worker.pid)


def worker_exit(server, worker):  # noqa: ANN001, ANN201, ARG001 - gunicorn's hook
    """Send the spans that are left, of a process that has answered anything."""
    app = getattr(worker, "wsgi", None)
    if app and app.extensions["traces"]:
        app.extensions["traces"].close()


def on_exit(server):  # noqa: ANN001, ANN201, ARG001 - gunicorn's hook
    """Leave nothing behind."""
    shutil.rmtree(_counts, ignore_errors=True)
