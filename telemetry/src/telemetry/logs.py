"""Logging as one JSON object per line on stdout, with the ids of the request and of its trace."""

import logging.config
import warnings
from contextvars import ContextVar
from typing import Any

request_id: ContextVar[str] = ContextVar("request_id", default="")
trace_id: ContextVar[str] = ContextVar("trace_id", default="")


def _add_ids(record: logging.LogRecord) -> bool:
    record.request_id = request_id.get()
    if traced := trace_id.get():
        record.trace_id = traced
    return True


def config(level: str, **fields: str) -> dict[str, Any]:
    """Build the `logging.config` dictionary for records of `level` and above; every line gets `fields`."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"ids": {"()": lambda: _add_ids}},
        "formatters": {
            "json": {
                "()": "pythonjsonlogger.json.JsonFormatter",
                "fmt": ["levelname", "message", "request_id"],
                "rename_fields": {"levelname": "level"},
                "static_fields": fields,
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


def configure(level: str, **fields: str) -> None:
    """Log records of `level` and above, and Python's warnings; every line gets `fields`, such as the tier."""
    logging.captureWarnings(capture=True)  # Python writes them to stderr, not as JSON
    warnings.filterwarnings("ignore", module="PIL")  # one warning per odd tag; a small file can have thousands
    logging.config.dictConfig(config(level, **fields))
