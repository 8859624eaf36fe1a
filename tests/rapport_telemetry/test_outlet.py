from __future__ import annotations

import fcntl
import logging
import os
import re
from collections.abc import Iterator
from contextlib import suppress

import pytest

from rapport_telemetry import outlet
from rapport_telemetry.outlet import Outlet

LINE = "x" * 99

Pipe = tuple[int, int]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """A pipe that is full after a page."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    yield reader, writer
    for end in (reader, writer):
        with suppress(OSError):
            os.close(end)


def record(message: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord("here", logging.INFO, "", 0, message, args, None)


def test_lines_are_written_in_order(pipe: Pipe) -> None:
    """What is logged leaves, each on a line of its own."""
    reader, writer = pipe
    handler = Outlet(writer)
    for number in range(3):
        handler.emit(record("line %d", number))
    handler.flush()
    assert os.read(reader, 4096) == b"line 0\nline 1\nline 2\n"


def test_a_reader_that_stopped_stops_nobody(pipe: Pipe) -> None:
    """Into a full pipe one can log on; what is too much is dropped, and counted in the log."""
    reader, writer = pipe
    handler = Outlet(writer, most_waiting=10_000)
    for _ in range(1000):
        handler.emit(record(LINE))
    text, kept, dropped = b"", 0, 0
    while kept + dropped < 1000:
        text += os.read(reader, 4096)
        kept = text.count(LINE.encode())
        dropped = sum(map(int, re.findall(rb"(\d+) log lines before", text)))
    assert 100 <= kept < 200


def test_flush_waits_a_bounded_time(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """With lines that nobody reads, the end of the process is not put off for long."""
    monkeypatch.setattr(outlet, "FLUSH", 0.01)
    handler = Outlet(pipe[1])
    for _ in range(100):
        handler.emit(record(LINE))
    handler.flush()
    assert handler._waiting


def test_a_reader_that_left_costs_lines_alone(pipe: Pipe) -> None:
    """A closed pipe is no error to who logs."""
    reader, writer = pipe
    os.close(reader)
    handler = Outlet(writer)
    handler.emit(record("lost"))
    handler.flush()
    assert not handler._waiting


def test_a_descriptor_that_does_not_block(pipe: Pipe) -> None:
    """A terminal that others have set not to block gets all lines, in its time."""
    reader, writer = pipe
    os.set_blocking(writer, False)
    handler = Outlet(writer)
    for _ in range(100):
        handler.emit(record(LINE))
    text = b""
    while text.count(b"\n") < 100:
        text += os.read(reader, 4096)
    assert text == (LINE.encode() + b"\n") * 100


def test_a_record_that_cannot_be_shown_harms_nobody(pipe: Pipe) -> None:
    """A bad log call is counted, and does not raise."""
    reader, writer = pipe
    handler = Outlet(writer)
    handler.emit(record("%d", "no number"))
    handler.emit(record("next"))
    text = b""
    while text.count(b"\n") < 2:
        text += os.read(reader, 4096)
    assert b"1 log lines before this one were dropped" in text
    assert b"next\n" in text
