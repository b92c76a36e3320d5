"""Process logs: one line an event, for people or, on request, as JSON for a collector. Never a prompt or a key."""

import json
import logging
import sys
from datetime import UTC, datetime

from aiohttp.http import HttpProcessingError


def set_up_logging(*, as_json: bool) -> None:
    """Send every log record to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    for_people = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if as_json else for_people)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for chatty in ("asyncio", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.getLogger("aiohttp.server").addFilter(without_clients_faults)


def without_clients_faults(record: logging.LogRecord) -> bool:
    """Cut short what aiohttp logs, as an error with its trace, where a client sends no HTTP or leaves early.

    The trace of the first repeats the bytes at fault: a cookie or a key may be among them.
    """
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        record.levelno, record.levelname = logging.INFO, "INFO"
        record.msg, record.args, record.exc_info = "refused what is not HTTP: status=%d", (error.code,), None
    return not isinstance(error, ConnectionError)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)
