"""Progress is a bar on a terminal and plain lines elsewhere."""

from __future__ import annotations

import io
import logging

import pytest
from rich.console import Console

from rapport.models.progress import bars, logged, shown


def test_plain_lines_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal each step is one line on standard error, and standard output is clean."""
    with shown() as progress:
        for what in ("downloading [x]", "unpacking"):
            for done in (0.0, 0.5, 1.0):
                progress(what, done)
    captured = capsys.readouterr()
    assert captured.err.splitlines() == ["downloading [x] …", "unpacking …"]
    assert captured.out == ""


def test_bar_on_a_terminal() -> None:
    """On a terminal the bar shows the step and how much of it is done, and at most all of it."""
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with bars(console) as progress:
        progress("unpacking", 0.5)
        progress("unpacking", 1.2)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "unpacking" in text
    assert "100%" in text


def test_logged(caplog: pytest.LogCaptureFixture) -> None:
    """For a log, each step is a record."""
    caplog.set_level(logging.INFO)
    progress = logged()
    for what, done in (("a", 0.0), ("a", 1.0), ("b", 0.0)):
        progress(what, done)
    assert [record.getMessage() for record in caplog.records] == ["a …", "b …"]
