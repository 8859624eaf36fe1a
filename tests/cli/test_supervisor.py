"""Parts are started again when they crash, and ended when they should."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from rapport.cli import supervisor
from rapport.cli.supervisor import Part, supervise

# Parts tell with these that they serve, and notes each start in a file named by its first argument.
SERVES = """
import os, signal, sys, time
from rapport.common.process import tell_ready
with open(sys.argv[1], "a") as starts: starts.write("start\\n")
"""
STAYS = f"{SERVES}tell_ready(); time.sleep(60)"
IGNORES = f"{SERVES}signal.signal(signal.SIGTERM, signal.SIG_IGN); tell_ready(); time.sleep(60)"
CRASHES = f"{SERVES}tell_ready(); os.kill(os.getpid(), signal.SIGSEGV)"
ENDS = f"{SERVES}tell_ready(); sys.exit(3)"
REFUSES = f"{SERVES}sys.exit(int(sys.argv[2]))"
FAILS_LATER = f"""{SERVES}
with open(sys.argv[1]) as starts: first = len(starts.readlines()) == 1
if first: tell_ready()
sys.exit(1)
"""


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.1)
    monkeypatch.setattr(supervisor, "LONGEST_PAUSE", 0.4)


@pytest.fixture
def part(tmp_path: Path) -> Callable[..., Part]:
    def made(name: str, script: str, *arguments: str) -> Part:
        command = [sys.executable, "-c", script, str(tmp_path / name), *arguments]
        return Part(name, command, os.environ)

    return made


MakePart = Callable[..., Part]


class Supervision:
    """Supervises in a thread of its own, where signals are numbers in a list."""

    def __init__(self, *parts: Part, patience: float = 10) -> None:
        self.told: list[int] = []
        self.status: int | None = None
        self._others = children()
        self._run = lambda: supervise(parts, self.told, patience)
        self._thread = threading.Thread(target=self._supervise)
        self._thread.start()

    def _supervise(self) -> None:
        self.status = self._run()

    def tell(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.told.append(number)

    def result(self) -> int | None:
        self._thread.join(20)
        return self.status

    def left(self) -> set[psutil.Process]:
        """Parts that are still there, running or not collected."""
        return children() - self._others


def children() -> set[psutil.Process]:
    return set(psutil.Process().children())


def starts(folder: Path, name: str) -> int:
    noted = folder / name
    return len(noted.read_text().splitlines()) if noted.exists() else 0


def until(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)


@pytest.mark.parametrize(("script", "manner"), [(CRASHES, "by SIGSEGV"), (ENDS, "with status 3")])
def test_a_crashed_part_starts_again(
    part: MakePart, tmp_path: Path, caplog: pytest.LogCaptureFixture, script: str, manner: str
) -> None:
    """A part that ends after it served starts again, after pauses that double up to a bound."""
    with caplog.at_level(logging.ERROR, "rapport.serve"):
        supervision = Supervision(part("calm", STAYS), part("frail", script))
        until(lambda: starts(tmp_path, "frail") >= 5)
        supervision.tell()
        assert supervision.result() in (0, 1)  # one may have crashed as it was told to stop
    said = re.findall(r"the frail ended (.*); it starts again in (.*) s", caplog.text)
    assert [pause for _, pause in said[:4]] == ["0.1", "0.2", "0.4", "0.4"]
    assert {ended for ended, _ in said} == {manner}
    assert starts(tmp_path, "calm") == 1
    assert not supervision.left()


def test_a_good_run_makes_the_next_crash_a_first_one(
    part: MakePart,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After it has run well for long enough, a part is started as soon as at its first crash."""
    monkeypatch.setattr(supervisor, "RAN_WELL", 0.0)
    supervision = Supervision(part("frail", ENDS))
    until(lambda: starts(tmp_path, "frail") >= 4)
    supervision.tell()
    supervision.result()
    assert set(re.findall(r"again in (.*) s", caplog.text)) == {"0.1"}


@pytest.mark.parametrize(("given", "status"), [("1", 1), ("2", 2), ("0", 1), ("9", 1)])
def test_a_part_that_never_served_ends_all(
    part: MakePart,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    given: str,
    status: int,
) -> None:
    """What cannot start is not tried for ever: the others end, and the status tells of it."""
    supervision = Supervision(part("calm", STAYS), part("bad", REFUSES, given))
    assert supervision.result() == status
    assert f"the bad could not start: it ended with status {given}" in caplog.text
    assert starts(tmp_path, "bad") == 1
    assert not supervision.left()


def test_a_part_that_has_served_is_tried_again_whatever_it_says(
    part: MakePart, tmp_path: Path
) -> None:
    """A port that is taken for a moment after a crash does not end all."""
    supervision = Supervision(part("unlucky", FAILS_LATER))
    until(lambda: starts(tmp_path, "unlucky") >= 3)
    supervision.tell()
    assert supervision.result() in (0, 1)


def test_told_to_stop_between_two_starts(
    part: MakePart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pause before a start does not hold up the end, and the crash before it is no failure."""
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 60.0)
    frail = part("frail", ENDS)
    supervision = Supervision(frail)
    until(lambda: starts(tmp_path, "frail") == 1 and not frail.runs)
    time.sleep(0.2)
    supervision.tell()
    assert supervision.result() == 0
    assert starts(tmp_path, "frail") == 1


def test_a_second_signal_kills(part: MakePart, tmp_path: Path) -> None:
    """Parts that do not end at the first signal are gone soon after the second."""
    supervision = Supervision(part("deaf", IGNORES))
    until(lambda: starts(tmp_path, "deaf") == 1)
    supervision.tell()
    time.sleep(0.3)
    assert supervision.status is None
    supervision.tell(signal.SIGINT)
    assert supervision.result() == 128 + signal.SIGINT
    assert not supervision.left()


def test_patience_ends(part: MakePart, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A part that never ends is killed in the end, and that is told."""
    supervision = Supervision(part("deaf", IGNORES), patience=0.3)
    until(lambda: starts(tmp_path, "deaf") == 1)
    supervision.tell()
    assert supervision.result() == 1
    assert "the deaf ended by SIGKILL" in caplog.text
    assert not supervision.left()
