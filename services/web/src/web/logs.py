"""Logging set-up for gunicorn: one JSON object a line on stdout, with the ids of request and trace if there are any."""

from __future__ import annotations

import logging
from typing import Any

from flask import g, has_app_context
from gunicorn.glogging import Logger


class NoAccessLog(Logger):  # type: ignore[misc] # gunicorn has no types
    """gunicorn's logger without its access log, which it would put together for each request though nobody reads it.

    The application writes the line, with the request's id. That took a twentieth of the gateway's CPU time.
    """

    access_log_enabled = False


def add_ids(record: logging.LogRecord) -> bool:
    """Give a log record the ids of the request that is being answered, and of its trace."""
    record.request_id = g.get("request_id", "") if has_app_context() else ""
    if has_app_context() and "trace_id" in g:
        record.trace_id = g.trace_id
    return True


def config(level: str) -> dict[str, Any]:
    """Make the `logging.config` dictionary for messages from `level` upwards."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"ids": {"()": lambda: add_ids}},
        "formatters": {
            "json": {
                "()": "pythonjsonlogger.json.JsonFormatter",
                "fmt": ["levelname", "message", "request_id"],
                "rename_fields": {"levelname": "level"},
                "static_fields": {"tier": "web"},
                "timestamp": "ts",
            }
        },
        "handlers": {
            "stdout": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stdout",
                "formatter": "json",
                "filters": ["ids"],
            }
        },
        "root": {"level": level, "handlers": ["stdout"]},
        # gunicorn's own, which would otherwise write lines of its own form
        "loggers": {"gunicorn.error": {"level": level, "propagate": True, "handlers": []}},
    }
