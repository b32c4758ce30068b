# SPDX-License-Identifier: Apache-2.0
"""The log of the server: one JSON object per line on stderr."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from foveate.plain_text import json_text
from foveate.serve.call import Call
from foveate.system.loggers import redirect_logger

_logger = logging.getLogger("foveate.serve")


class JsonFormatter(logging.Formatter):
    """Formats a record as a JSON object: time, level, event, and the fields of the record.

    Args:
        debug: Whether errors come with their tracebacks.
    """

    def __init__(self, *, debug: bool = False) -> None:
        super().__init__()
        self._debug = debug

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": time,
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if self._debug and record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json_text(line).rstrip()


def log_to_stderr(*, debug: bool = False) -> None:
    """Write what the server and the libraries below it log to stderr, until the command ends."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter(debug=debug))
    for name, level in (("foveate", logging.INFO), ("uvicorn", logging.WARNING)):
        redirect_logger(name, handler, level)


def log_request(call: Call, method: str, status: int, *, infers: bool) -> None:
    """Log a request that was answered.

    Those that take no image and succeed, such as the probes of an orchestrator, are logged at the
    level of debugging.

    Args:
        call: The request.
        method: Method of HTTP.
        status: Status of its answer.
        infers: Whether it is a request for an inference.
    """
    fields: dict[str, Any] = {
        "id": call.id,
        "method": method,
        "route": call.route,
        "status": status,
        "seconds": round(call.seconds, 6),
    }
    if infers:
        fields |= {
            "bytes": call.bytes,
            "pixels": call.pixels,
            "waiting": None if call.waiting is None else round(call.waiting, 6),
            "times": {name: round(seconds, 6) for name, seconds in call.times.items()},
        }
    level = logging.INFO if infers or status >= 400 else logging.DEBUG
    _logger.log(level, "request", extra={"fields": fields})
