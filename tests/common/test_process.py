"""What processes report to the supervisor that started them, and how they show their stacks."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from rapport.common import process
from rapport.common.process import SUPERVISOR_FD, SupervisorLink

SHOWS = "from rapport.common.process import show_stacks; show_stacks(); print('on')"


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The supervisor's end; it waits for what it reads."""
    ours, theirs = socket.socketpair()
    ours.settimeout(20)
    monkeypatch.setenv(SUPERVISOR_FD, str(theirs.detach()))
    with ours:
        yield ours


async def test_heartbeats(supervisor: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process says when it is ready, and then again and again that its event loop runs."""
    monkeypatch.setattr(process, "HEARTBEAT_S", 0.01)
    SupervisorLink().report_ready()
    loop = asyncio.get_running_loop()
    for _ in range(3):
        assert await loop.run_in_executor(None, supervisor.recv, 1) == b"."


async def test_a_supervisor_that_is_gone_or_stopped(
    supervisor: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heartbeats that nobody reads, or can read, harm nobody."""
    monkeypatch.setattr(process, "HEARTBEAT_S", 0)
    supervisor.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    link = SupervisorLink()
    link.report_ready()
    for _ in range(2000):
        await asyncio.sleep(0)
    assert not link.may_exit
    supervisor.close()
    for _ in range(10):
        await asyncio.sleep(0)
    assert link.may_exit


async def test_leave_to_exit(supervisor: socket.socket) -> None:
    """A process stays until the supervisor closes its end."""
    link = SupervisorLink()
    link.report_ready()
    assert not link.may_exit
    supervisor.close()
    assert link.may_exit


async def test_without_a_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was started alone reports to nobody, and may exit."""
    monkeypatch.delenv(SUPERVISOR_FD, raising=False)
    link = SupervisorLink()
    link.report_ready()
    assert link.may_exit


def test_the_link_is_not_passed_on(supervisor: socket.socket) -> None:
    """What a process starts itself does not answer for it."""
    descriptor = int(os.environ[SUPERVISOR_FD])
    link = SupervisorLink()
    assert not os.get_inheritable(descriptor)
    assert SUPERVISOR_FD not in os.environ
    del link, supervisor


def test_a_process_without_stderr_starts() -> None:
    """Stacks that cannot be shown keep no process from its work."""
    closed = 'exec "$@" 2>&-'
    command = ["sh", "-c", closed, "sh", sys.executable, "-c", SHOWS]
    assert subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout == b"on\n"
