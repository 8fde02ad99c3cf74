"""Structured logs, one JSON object a line: routes and times, never images, names, addresses or queries."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from typing import Any, TextIO

logger = logging.getLogger("vlfew.serving")


class JsonLines(logging.Formatter):
    """Formats a record as JSON: its message as `event`, and what was given as `extra={"fields": ...}`."""

    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{when}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = describe_exception(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False)


def describe_exception(error: BaseException) -> str:
    """Where an exception was raised, without its message, which may hold names."""
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    return f"{type(error).__name__} at " + " > ".join(f"{f.filename}:{f.lineno} {f.name}" for f in frames)


def log_to(stream: TextIO | None = None) -> None:
    """Sends logs to a stream, by default the standard error; uvicorn's go with them."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines())
    for name in ("vlfew.serving", "uvicorn", "uvicorn.error"):
        own = logging.getLogger(name)
        own.handlers, own.propagate = [], False
    for own in (logger, logging.getLogger("uvicorn")):
        own.addHandler(handler)
    logging.getLogger("uvicorn.error").propagate = True
    logger.setLevel(logging.INFO)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


def log_event(event: str, **fields: Any) -> None:
    """Logs what happened."""
    logger.info(event, extra={"fields": fields})
