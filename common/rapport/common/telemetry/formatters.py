"""Log records as lines of text or JSON, whose content cannot break or forge a line."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import orjson

# An exception's message may quote a request. Those of these types describe the machine only.
SAFE_ERRORS = (OSError, MemoryError)
RUNTIME = "onnxruntime"


def fields(**values: Any) -> dict[str, Any]:
    """Fields of a JSON line beside its message, for `extra` of a log call; None is omitted."""
    return {"fields": {name: value for name, value in values.items() if value is not None}}


class TextFormatter(logging.Formatter):
    """`time LEVEL message`, with the exception indented below it."""

    def __init__(self, *, content: bool) -> None:
        super().__init__()
        self._content = content

    def format(self, record: logging.LogRecord) -> str:
        line = f"{time_of(record)} {record.levelname} {printable(record.getMessage())}"
        exception = exception_of(record, content=self._content).splitlines()
        return "\n    ".join([line, *map(printable, exception)])


class JsonFormatter(logging.Formatter):
    """One JSON object."""

    def __init__(self, *, content: bool) -> None:
        super().__init__()
        self._content = content

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time_of(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if exception := exception_of(record, content=self._content):
            line["exception"] = exception
        # orjson leaves some characters as they are at which readers end a line.
        return _replaced(_encoded(line), lambda char: json.dumps(char)[1:-1])


def time_of(record: logging.LogRecord) -> str:
    """RFC 3339, in UTC, to the millisecond."""
    when = datetime.fromtimestamp(record.created, UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def printable(text: str) -> str:
    """The text with line breaks, control characters and the like as escapes."""
    return _replaced(text, lambda char: char.encode("unicode_escape").decode())


def exception_of(record: logging.LogRecord, *, content: bool) -> str:
    """The exceptions of a record, causes first.

    Without `content`, messages that may quote a request are left out.
    """
    error = record.exc_info[1] if record.exc_info else None
    if error is None:
        return ""
    if content:
        return "".join(traceback.format_exception(error)).rstrip()
    return "\n".join(map(_discreet, reversed(list(_chain(error)))))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _discreet(error: BaseException) -> str:
    kind = type(error)
    is_safe = isinstance(error, SAFE_ERRORS) or kind.__module__.startswith(RUNTIME)
    frames = "".join(traceback.format_tb(error.__traceback__))
    return f"{frames}{kind.__module__}.{kind.__qualname__}{f': {error}' if is_safe else ''}"


def _encoded(line: dict[str, Any]) -> str:
    try:
        return orjson.dumps(line, default=str).decode()
    except TypeError:
        # Halves of surrogate pairs and integers beyond 64 bits, which orjson does not take. What
        # is no number is null to orjson, and would be no JSON here.
        plain = json.loads(json.dumps(line, default=str), parse_constant=lambda _: None)
        return json.dumps(plain, ensure_ascii=False).encode(errors="replace").decode()


def _replaced(text: str, escape: Callable[[str], str]) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else escape(char) for char in text)
