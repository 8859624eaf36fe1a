"""The log of a process: all that it says, in one format, on standard error."""

from __future__ import annotations

import logging
import sys
import threading
from types import TracebackType

from rapport.common.settings import Settings
from rapport.common.telemetry.async_handler import AsyncHandler
from rapport.common.telemetry.formatters import JsonFormatter, TextFormatter

STDERR = 2

logger = logging.getLogger("rapport.process")


def set_up(settings: Settings) -> None:
    """Logs from now on, warnings and what nobody catches included."""
    lines = JsonFormatter if settings.log_format == "json" else TextFormatter
    outlet = AsyncHandler(STDERR)
    outlet.setFormatter(lines(content=settings.log_content))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[outlet])
    logging.captureWarnings(capture=True)
    if not settings.log_content:
        logging.getLogger("asyncio").addFilter(without_state)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread
    sys.unraisablehook = _unraisable


def without_state(record: logging.LogRecord) -> bool:
    """Leaves out the tasks and exceptions that asyncio shows below the first line."""
    record.msg, record.args = record.getMessage().partition("\n")[0], ()
    return True


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    # It ends the process and is of no request, so what it says is told.
    logger.critical("%s: %s", kind.__name__, error, exc_info=(kind, error, trace))


def _uncaught_in_thread(told: threading.ExceptHookArgs) -> None:
    name = told.thread.name if told.thread else "unknown"
    error = told.exc_value or told.exc_type()
    logger.critical("the thread %s died", name, exc_info=error)


def _unraisable(told: sys.UnraisableHookArgs) -> None:
    logger.error("an error in a %s was ignored", type(told.object), exc_info=told.exc_value)
