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
    handler = AsyncHandler(STDERR)
    handler.setFormatter(lines(content=settings.log_content))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])
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
    # It ends the process and is of no request, so its message is logged.
    logger.critical("%s: %s", kind.__name__, error, exc_info=(kind, error, trace))


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    name = args.thread.name if args.thread else "unknown"
    error = args.exc_value or args.exc_type()
    logger.critical("the thread %s died", name, exc_info=error)


def _unraisable(args: sys.UnraisableHookArgs) -> None:
    logger.error("an error in a %s was ignored", type(args.object), exc_info=args.exc_value)
