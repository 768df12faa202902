"""Logging set-up: one JSON object a line on stdout, with the ids of request and trace if there are any."""

from __future__ import annotations

import logging.config
import warnings
from contextvars import ContextVar

request_id: ContextVar[str] = ContextVar("request_id", default="")
trace_id: ContextVar[str] = ContextVar("trace_id", default="")


def _add_ids(record: logging.LogRecord) -> bool:
    record.request_id = request_id.get()
    if traced := trace_id.get():
        record.trace_id = traced
    return True


def configure(level: str, part: str) -> None:
    """Log from `level` upwards; `part` says which of the processes a line is from."""
    logging.captureWarnings(capture=True)  # on stderr they would be no JSON
    warnings.filterwarnings("ignore", module="PIL")  # it warns of each odd tag, and a small file can have thousands
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "filters": {"ids": {"()": lambda: _add_ids}},
            "formatters": {
                "json": {
                    "()": "pythonjsonlogger.json.JsonFormatter",
                    "fmt": ["levelname", "message", "request_id"],
                    "rename_fields": {"levelname": "level"},
                    "static_fields": {"tier": "inference", "part": part},
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
        }
    )
