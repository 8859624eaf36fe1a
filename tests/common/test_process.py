"""What processes tell who started them, and who asks."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from rapport.common.process import READY_FD, tell_ready

SHOWS = "from rapport.common.process import show_stacks; show_stacks(); print('on')"


def test_ready_is_told_once_to_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who gave a descriptor hears a line and the end of it."""
    ready, told = os.pipe()
    monkeypatch.setenv(READY_FD, str(told))
    tell_ready()
    with os.fdopen(ready, "rb") as heard:
        assert heard.read() == b"\n"


def test_ready_is_told_to_no_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a descriptor nothing is written anywhere."""
    monkeypatch.delenv(READY_FD, raising=False)
    tell_ready()


def test_a_process_without_stderr_starts() -> None:
    """Stacks that cannot be shown keep no process from its work."""
    closed = 'exec "$@" 2>&-'
    command = ["sh", "-c", closed, "sh", sys.executable, "-c", SHOWS]
    assert subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout == b"on\n"
