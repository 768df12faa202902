"""Logging set-up for gunicorn: one JSON object a line on stdout, each with the request's id where there is one."""

from __future__ import annotations

import logging
from typing import Any

from flask import g, has_app_context


def add_request_id(record: logging.LogRecord) -> bool:
    """Give a log record the id of the request that is being answered."""
    record.request_id = g.get("request_id", "") if has_app_context() else ""
    return True


def config(level: str) -> dict[str, Any]:
    """Make the `logging.config` dictionary for messages from `level` upwards."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"request_id": {"()": lambda: add_request_id}},
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
                "filters": ["request_id"],
            }
        },
        "root": {"level": level, "handlers": ["stdout"]},
        # gunicorn's own, which would otherwise write lines of its own form
        "loggers": {"gunicorn.error": {"level": level, "propagate": True, "handlers": []}},
    }
