"""Logging set-up: one JSON object a line on stdout, each with the request's id where there is one."""

from __future__ import annotations

import logging.config
from contextvars import ContextVar

request_id: ContextVar[str] = ContextVar("request_id", default="")


def _add_request_id(record: logging.LogRecord) -> bool:
    record.request_id = request_id.get()
    return True


def configure(level: str, part: str) -> None:
    """Log from `level` upwards; `part` says which of the processes a line is from."""
    logging.captureWarnings(capture=True)  # Pillow warns of odd files; on stderr that would be no JSON
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "filters": {"request_id": {"()": lambda: _add_request_id}},
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
                    "filters": ["request_id"],
                }
            },
            "root": {"level": level, "handlers": ["stdout"]},
        }
    )
