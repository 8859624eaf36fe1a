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

# What parts run. Each notes its starts in the file named by its first argument.
BEGINS = """
import asyncio, os, signal, sys, time
from rapport.common.process import SupervisorLink
with open(sys.argv[1], "a") as starts: starts.write("start\\n")
link = SupervisorLink()
async def serve(seconds=60):
    link.report_ready()
    await asyncio.sleep(seconds)
"""
STAYS = f"{BEGINS}asyncio.run(serve())"
IGNORES = f"{BEGINS}signal.signal(signal.SIGTERM, signal.SIG_IGN); asyncio.run(serve())"
CRASHES = f"{BEGINS}asyncio.run(serve(0)); os.kill(os.getpid(), signal.SIGSEGV)"
ENDS = f"{BEGINS}asyncio.run(serve(0)); sys.exit(3)"
REFUSES = f"{BEGINS}sys.exit(int(sys.argv[2]))"
LOADS = f"{BEGINS}time.sleep(60)"
HANGS = f"{BEGINS}asyncio.run(serve(0)); time.sleep(60)"
FAILS_LATER = f"""{BEGINS}
with open(sys.argv[1]) as starts: first = len(starts.readlines()) == 1
if first: asyncio.run(serve(0))
sys.exit(1)
"""
# Drains until the file of its second argument is there.
DRAINS = f"""{BEGINS}
async def drain():
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    link.report_ready()
    await stopped.wait()
    while not os.path.exists(sys.argv[2]): await asyncio.sleep(0.01)
asyncio.run(drain())
"""
# Notes the signal, and ends when the supervisor lets it.
STAYS_BEHIND = f"""{BEGINS}
async def stay():
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    link.report_ready()
    await stopped.wait()
    with open(sys.argv[1], "a") as starts: starts.write("stopping\\n")
    while not link.may_exit: await asyncio.sleep(0.01)
asyncio.run(stay())
"""


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "MIN_PAUSE_S", 0.1)
    monkeypatch.setattr(supervisor, "MAX_PAUSE_S", 0.4)


@pytest.fixture
def part(tmp_path: Path) -> Callable[..., Part]:
    def make(name: str, script: str, *arguments: str, stall_timeout_s: float = 0) -> Part:
        command = [sys.executable, "-c", script, str(tmp_path / name), *arguments]
        return Part(name, command, os.environ, stall_timeout_s)

    return make


MakePart = Callable[..., Part]


class Supervision:
    """Supervises in a thread of its own, where signals are numbers in a list."""

    def __init__(self, *parts: Part, patience: float = 10) -> None:
        self.signals: list[int] = []
        self.status: int | None = None
        self._others = children()
        self._run = lambda: supervise(parts, self.signals, patience)
        self._thread = threading.Thread(target=self._supervise)
        self._thread.start()

    def _supervise(self) -> None:
        self.status = self._run()

    def send(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.signals.append(number)

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
        supervision.send()
        assert supervision.result() in (0, 1)  # one may have crashed as it was stopped
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
    monkeypatch.setattr(supervisor, "STABLE_AFTER_S", 0.0)
    supervision = Supervision(part("frail", ENDS))
    until(lambda: starts(tmp_path, "frail") >= 4)
    supervision.send()
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
    supervision.send()
    assert supervision.result() in (0, 1)


def test_a_stop_between_two_starts(
    part: MakePart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pause before a start does not hold up the end, and the crash before it is no failure."""
    monkeypatch.setattr(supervisor, "MIN_PAUSE_S", 60.0)
    frail = part("frail", ENDS)
    supervision = Supervision(frail)
    until(lambda: starts(tmp_path, "frail") == 1 and not frail.runs)
    time.sleep(0.2)
    supervision.send()
    assert supervision.result() == 0
    assert starts(tmp_path, "frail") == 1


def test_a_second_signal_kills(part: MakePart, tmp_path: Path) -> None:
    """Parts that do not end at the first signal are gone soon after the second."""
    supervision = Supervision(part("deaf", IGNORES))
    until(lambda: starts(tmp_path, "deaf") == 1)
    supervision.send()
    time.sleep(0.3)
    assert supervision.status is None
    supervision.send(signal.SIGINT)
    assert supervision.result() == 128 + signal.SIGINT
    assert not supervision.left()


def test_patience_ends(part: MakePart, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A part that never ends is killed in the end, and the log says so."""
    supervision = Supervision(part("deaf", IGNORES), patience=0.3)
    until(lambda: starts(tmp_path, "deaf") == 1)
    supervision.send()
    assert supervision.result() == 1
    assert "the deaf ended by SIGKILL" in caplog.text
    assert not supervision.left()


def pid(part: Part) -> int:
    assert part.process is not None
    return part.process.pid


@pytest.mark.parametrize("how", ["stopped", "hung"])
def test_a_part_that_hangs_is_killed_and_starts_again(
    part: MakePart, tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """Without a sign of its event loop for the timeout, a part is killed and started again."""
    script = STAYS if how == "stopped" else HANGS
    frail = part("frail", script, stall_timeout_s=3)
    calm = part("calm", STAYS, stall_timeout_s=3)
    supervision = Supervision(frail, calm)
    until(lambda: frail.has_served and calm.has_served)
    if how == "stopped":
        os.kill(pid(frail), signal.SIGSTOP)
    until(lambda: starts(tmp_path, "frail") >= 2)
    supervision.send()
    assert supervision.result() in (0, 1)
    assert "the frail has not responded for 3 s and is killed" in caplog.text
    assert "the frail ended by SIGKILL; it starts again in" in caplog.text
    assert "the calm has not" not in caplog.text
    assert not supervision.left()


def test_a_part_that_loads_is_given_its_time(
    part: MakePart, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """However long a part does not respond before it is ready, it is not killed."""
    slow = part("slow", LOADS, stall_timeout_s=0.2)
    hangs = part("hangs", HANGS, stall_timeout_s=0.2)
    supervision = Supervision(slow, hangs)
    until(lambda: "the hangs ended by SIGKILL" in caplog.text)
    assert starts(tmp_path, "slow") == 1
    assert slow.runs
    supervision.send()
    supervision.result()
    assert "the slow has not" not in caplog.text


def test_parts_exit_in_order(part: MakePart, tmp_path: Path) -> None:
    """All get the signal at once; the last answers until the first has drained."""
    drained = tmp_path / "drained"
    first, last = part("first", DRAINS, str(drained)), part("last", STAYS_BEHIND)
    supervision = Supervision(first, last)
    until(lambda: first.has_served and last.has_served)
    supervision.send()
    until(lambda: starts(tmp_path, "last") == 2)  # it has noted the signal
    assert first.runs
    assert last.runs
    drained.touch()
    assert supervision.result() == 0
    assert (first.status, last.status) == (0, 0)


def test_output_in_a_file(tmp_path: Path) -> None:
    """A part's output goes to its log, after what its process before has written."""
    log = tmp_path / "part.log"
    log.write_text("before\n")
    part = Part("part", [sys.executable, "-c", "print('hello')"], {}, log=log)
    part.start()
    assert part.process is not None
    assert part.process.wait(30) == 0
    part.let_exit()
    assert log.read_text() == "before\nhello\n"


def test_polls(tmp_path: Path) -> None:
    """What is to be done at each poll is done while the parts run."""
    signals: list[int] = []
    part = Part("part", [sys.executable, "-c", STAYS, str(tmp_path / "starts")], os.environ)
    assert supervise([part], signals, 10, lambda: signals.append(signal.SIGTERM)) == 0
    assert signals == [signal.SIGTERM]
