from __future__ import annotations

import logging
import sys
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapport.common.telemetry.formatters import JsonFormatter, TextFormatter, fields

# Whatever Python can hold as text, halves of surrogate pairs included.
ANYTHING = st.text(st.characters())
NOON = 1_795_521_600.1236
FORGED = 'x\n2026-11-24T12:00:00.123Z INFO forged\r\x1b[2J\u2028\u202e\x85\ud800"}'


def record(message: str, *args: object, **values: Any) -> logging.LogRecord:
    made = logging.LogRecord("here", logging.INFO, "", 0, message, args, None)
    made.created = NOON
    made.__dict__.update(fields(**values))
    return made


def failed(error: BaseException) -> logging.LogRecord:
    made = record("failed")
    try:
        raise error  # noqa: TRY301 - for its traceback
    except BaseException:  # noqa: BLE001 - whatever it is
        made.exc_info = sys.exc_info()
    return made


def text(made: logging.LogRecord, *, content: bool = False) -> str:
    return TextFormatter(content=content).format(made)


def parsed(made: logging.LogRecord, *, content: bool = False) -> dict[str, Any]:
    line = JsonFormatter(content=content).format(made)
    assert len(line.splitlines()) == 1
    value: dict[str, Any] = orjson.loads(line)
    return value


def test_text_line() -> None:
    """A line has time, level and message."""
    assert text(record("says %s", "this")) == "2026-11-24T12:00:00.123Z INFO says this"


def test_json_line() -> None:
    """An object has the same, the logger and the fields that there are."""
    assert parsed(record("says %s", "this", status=200, route=None)) == {
        "time": "2026-11-24T12:00:00.123Z",
        "level": "info",
        "logger": "here",
        "message": "says this",
        "status": 200,
    }


@given(ANYTHING)
def test_nothing_breaks_a_text_line(said: str) -> None:
    """Whatever a message is made of, it stays on its line and moves no cursor."""
    line = text(record("%s", said))
    assert line.isprintable()
    assert line.startswith("2026-11-24T12:00:00.123Z INFO ")


@given(ANYTHING, st.lists(ANYTHING), st.integers(), st.floats())
def test_nothing_breaks_a_json_line(
    said: str, others: list[str], number: int, ratio: float
) -> None:
    """Whatever the values are, a line is one object that a strict parser reads."""
    line = JsonFormatter(content=False).format(
        record("%s", said, others=others, number=number, ratio=ratio)
    )
    assert line.isprintable()
    value = orjson.loads(line)
    if said.encode(errors="ignore").decode() == said:
        assert value["message"] == said


def test_forged_lines_stay_inside() -> None:
    """A line break in what a caller chose begins no line."""
    assert text(record("%s", FORGED)).count("forged") == 1
    assert len(text(record("%s", FORGED)).splitlines()) == 1
    assert parsed(record("%s", FORGED, path=FORGED))["path"].startswith("x\n2026")


def test_exception_shows_where_and_not_what() -> None:
    """An exception's text may be a caller's: kind and place are logged, the text is not."""
    secret = KeyError("secret")
    secret.add_note("secret")
    for output in (text(failed(secret)), parsed(failed(secret))["exception"]):
        assert "builtins.KeyError" in output
        assert "test_formatters.py" in output
        assert "secret" not in output.replace("raise error", "")


def test_what_the_machine_says_is_told() -> None:
    """A full disk has nothing of a caller's, and an operator needs to know."""
    assert "builtins.OSError: [Errno 28] disk full" in text(failed(OSError(28, "disk full")))


def test_causes_are_told() -> None:
    """An exception's causes come before it, without their words."""
    outer = RuntimeError("outer words")
    outer.__cause__ = ValueError("inner words")
    output = text(failed(outer))
    assert output.index("ValueError") < output.index("RuntimeError")
    assert "words" not in output


def test_circular_causes_end() -> None:
    """Two exceptions that are each other's cause are each reported once."""
    one, other = ValueError(), TypeError()
    one.__cause__, other.__cause__ = other, one
    assert text(failed(one)).count("builtins.TypeError") == 1


def test_content_is_told_when_asked_for() -> None:
    """With content, exceptions are told as Python tells them, and forge no line either."""
    output = text(failed(ValueError(FORGED)), content=True)
    assert "ValueError: x" in output
    assert all(line.startswith("    ") for line in output.splitlines()[1:])
    assert "forged" in parsed(failed(ValueError(FORGED)), content=True)["exception"]


@pytest.mark.parametrize("lines", [TextFormatter, JsonFormatter])
def test_levels(lines: type[logging.Formatter]) -> None:
    """Without an exception there is a single line."""
    assert len(lines(content=True).format(record("plain")).splitlines()) == 1  # type: ignore[call-arg]
