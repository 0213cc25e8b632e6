"""Logs as JSON lines on standard error: one object a record, what was passed as ``extra`` beside the message."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final, TextIO

MAX_TEXT: Final = 8192
"""Characters kept of a message or trace: a line longer than 16 KiB is split by container runtimes."""
_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Format ``{"time", "level", "logger", "message", ...extra, "error"?}``."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage()[:MAX_TEXT],
        }
        line |= {key: value for key, value in vars(record).items() if key not in _OWN and key not in line}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)[-MAX_TEXT:]
        return json.dumps(line, default=str, ensure_ascii=False)


def configure(level: str, stream: TextIO | None = None) -> None:
    """Send all records from *level* on to *stream*, standard error if None, replacing whatever was set up before."""
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # One line for every probe would drown the rest.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
