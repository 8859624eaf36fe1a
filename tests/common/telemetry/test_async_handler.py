from __future__ import annotations

import fcntl
import logging
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from rapport.common.telemetry import async_handler as outlet
from rapport.common.telemetry.async_handler import MAX_WAITING_BYTES, AsyncHandler

LINE = "x" * 99


@dataclass
class Pipe:
    """A pipe that is full after a page, and what writes to it."""

    reader: int
    writer: int
    outlets: list[AsyncHandler] = field(default_factory=list)

    def outlet(self, max_waiting_bytes: int = MAX_WAITING_BYTES) -> AsyncHandler:
        self.outlets.append(AsyncHandler(self.writer, max_waiting_bytes))
        return self.outlets[-1]

    def lines(self, count: int) -> bytes:
        text = b""
        while text.count(b"\n") < count:
            text += os.read(self.reader, 1000)
        return text

    def hang_up(self) -> None:
        if self.reader >= 0:
            os.close(self.reader)
            self.reader = -1


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe(*os.pipe())
    fcntl.fcntl(made.writer, fcntl.F_SETPIPE_SZ, 4096)
    yield made
    made.hang_up()
    while any(each._waiting for each in made.outlets):
        time.sleep(0.01)
    os.close(made.writer)


def record(message: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord("here", logging.INFO, "", 0, message, args, None)


def test_lines_are_written_in_order(pipe: Pipe) -> None:
    """What is logged leaves, each on a line of its own."""
    handler = pipe.outlet()
    for number in range(3):
        handler.emit(record("line %d", number))
    handler.flush()
    assert os.read(pipe.reader, 4096) == b"line 0\nline 1\nline 2\n"


def test_a_reader_that_stopped_stops_nobody(pipe: Pipe) -> None:
    """Into a full pipe one can log on; what is too much is dropped, and counted in the log."""
    handler = pipe.outlet(max_waiting_bytes=10_000)
    for _ in range(1000):
        handler.emit(record(LINE))
    text, kept, dropped = b"", 0, 0
    while kept + dropped < 1000:
        text += os.read(pipe.reader, 4096)
        kept = text.count(LINE.encode())
        dropped = sum(map(int, re.findall(rb"(\d+) log lines before", text)))
    assert 100 <= kept < 200


def test_lines_of_two_processes_are_not_mixed(pipe: Pipe) -> None:
    """Two who write into one pipe, as service and gateway do, do not write into each other."""
    for name in "ab":
        handler = pipe.outlet()
        for _ in range(200):
            handler.emit(record(name * 700))
    text = pipe.lines(400)
    assert {*text.splitlines()} == {b"a" * 700, b"b" * 700}


def test_flush_waits_a_bounded_time(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """With lines that nobody reads, the end of the process is not put off for long."""
    monkeypatch.setattr(outlet, "FLUSH_TIMEOUT_S", 0.01)
    handler = pipe.outlet()
    for _ in range(100):
        handler.emit(record(LINE))
    handler.flush()
    assert handler._waiting


def test_a_reader_that_left_costs_lines_alone(pipe: Pipe) -> None:
    """A closed pipe is no error to who logs."""
    pipe.hang_up()
    handler = pipe.outlet()
    handler.emit(record("lost"))
    handler.flush()
    assert not handler._waiting


def test_a_descriptor_that_does_not_block(pipe: Pipe) -> None:
    """A terminal that others have set not to block gets all lines, in its time."""
    os.set_blocking(pipe.writer, False)
    handler = pipe.outlet()
    for _ in range(100):
        handler.emit(record(LINE))
    text = pipe.lines(100)
    assert text == (LINE.encode() + b"\n") * 100


def test_a_record_that_cannot_be_shown_harms_nobody(pipe: Pipe) -> None:
    """A bad log call is counted, and does not raise."""
    handler = pipe.outlet()
    handler.emit(record("%d", "no number"))
    handler.emit(record("next"))
    text = pipe.lines(2)
    assert b"1 log lines before this one were dropped" in text
    assert b"next\n" in text
