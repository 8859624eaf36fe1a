"""Runs the parts of `rapport serve`, restarts one that crashed or hangs, and ends them."""

from __future__ import annotations

import ctypes
import logging
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

from rapport.common.process import SUPERVISOR_FD

logger = logging.getLogger("rapport.serve")

POLL_S = 0.05
# From a crash to the next start. It doubles with each crash, until a part has been stable for
# long enough that its next crash counts as the first.
MIN_PAUSE_S, MAX_PAUSE_S, STABLE_AFTER_S = 0.5, 30.0, 60.0
# Time for a part to write its stacks.
STACKS_DELAY_S = 0.1
MAX_HEARTBEATS_BYTES = 4096
PR_SET_PDEATHSIG = 1
# Exit statuses if a part never served: it could not start, or its settings are wrong.
START_FAILED, BAD_SETTINGS = 1, 2


class StartFailedError(Exception):
    """A part ended before it ever served, and has logged why. `status` is the exit status."""

    def __init__(self, part: Part) -> None:
        super().__init__(f"the {part.name} could not start: it ended {part.outcome}")
        self.status = BAD_SETTINGS if part.status == BAD_SETTINGS else START_FAILED


class Part:
    """A process that is kept running.

    Args:
        name: what the log calls it.
        command: the program and its arguments.
        environment: its variables.
        stall_timeout_s: seconds without a heartbeat after which it is killed; 0: no limit.
        log: the file that its output is added to; None: this process's output.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        stall_timeout_s: float = 0,
        log: Path | None = None,
    ) -> None:
        self.name = name
        self.process: subprocess.Popen[bytes] | None = None
        self._command = command
        self._environment = environment
        self._stall_timeout_s = stall_timeout_s
        self._log = log
        self.has_served = False
        self.is_ready = False
        self._silent_s = 0.0
        self._pause_s = MIN_PAUSE_S
        self._restart_at: float | None = None

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def status(self) -> int:
        """Its exit status, or the negative number of the signal that ended it. 0 while it runs."""
        return (self.process and self.process.returncode) or 0

    @property
    def outcome(self) -> str:
        """The same in words."""
        if self.status < 0:
            return f"by {signal.Signals(-self.status).name}"
        return f"with status {self.status}"

    def start(self) -> None:
        self._link, theirs = socket.socketpair()
        self._link.settimeout(0)
        self._started_at, self._restart_at = time.monotonic(), None
        self.is_ready, self._silent_s = False, 0.0
        with theirs, nullcontext() if self._log is None else self._log.open("ab") as log:
            # In a session of its own: Ctrl-C reaches only this process, which passes it on once.
            self.process = subprocess.Popen(  # noqa: S603 - one of our own programs
                self._command,
                env={**self._environment, SUPERVISOR_FD: str(theirs.fileno())},
                stdout=log,
                stderr=log,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                preexec_fn=_prepare,  # noqa: PLW1509 - this process has one thread
            )

    def check(self) -> None:
        """Kills it if it hangs; restarts it, after a pause, if it has ended.

        For calls POLL_S seconds apart.

        Raises:
            StartFailedError: it has ended and never served.
        """
        runs = self.runs
        self._read_heartbeats()  # also the last ones of a process that has ended
        if runs:
            self._kill_if_stalled()
        elif not self.has_served:
            raise StartFailedError(self)
        elif self._restart_at is None:
            self._schedule_restart()
        elif time.monotonic() >= self._restart_at:
            self.start()

    def send_signal(self, number: int) -> None:
        if self.process is not None:
            self.process.send_signal(number)  # does nothing where it has ended

    def stop(self) -> None:
        """Tells it to drain."""
        self.send_signal(signal.SIGTERM)

    def let_exit(self) -> None:
        """Tells it that it may exit once it has drained."""
        self._link.close()
        self.is_ready = False  # no heartbeats come any more

    def _read_heartbeats(self) -> None:
        try:
            is_alive = bool(self._link.recv(MAX_HEARTBEATS_BYTES))
        except OSError:  # there are none, or the process is gone
            is_alive = False
        if is_alive:
            self.has_served = self.is_ready = True
        # Counted in polls, not by a clock: after this process was itself stopped, with its
        # machine or container, the part gets its time again.
        self._silent_s = 0.0 if is_alive else self._silent_s + POLL_S

    def _kill_if_stalled(self) -> None:
        if not (self.is_ready and 0 < self._stall_timeout_s < self._silent_s):
            return
        logger.error(
            "the %s has not responded for %g s and is killed", self.name, self._stall_timeout_s
        )
        self.send_signal(signal.SIGUSR1)
        time.sleep(STACKS_DELAY_S)
        self.send_signal(signal.SIGKILL)
        self.is_ready = False

    def _schedule_restart(self) -> None:
        self._link.close()
        now = time.monotonic()
        if now - self._started_at >= STABLE_AFTER_S:
            self._pause_s = MIN_PAUSE_S
        logger.error(
            "the %s ended %s; it starts again in %g s", self.name, self.outcome, self._pause_s
        )
        self._restart_at = now + self._pause_s
        self._pause_s = min(self._pause_s * 2, MAX_PAUSE_S)


def supervise(
    parts: Sequence[Part],
    signals: list[int],
    patience_s: float,
    on_poll: Callable[[], object] = lambda: None,
) -> int:
    """Runs the parts until `signals` has one. Returns the exit status.

    `patience_s` is how long parts may then take to end before they are killed. Each may exit when
    those before it have ended: until then it answers that the server is shutting down. `on_poll` is
    called every POLL_S seconds.
    """
    for part in parts:
        part.start()
    try:
        while not signals:
            for part in parts:
                part.check()
            on_poll()
            time.sleep(POLL_S)
    except StartFailedError as error:
        _stop(parts, signals, patience_s)
        logger.error("%s", error)  # noqa: TRY400 - the line is for users
        return error.status
    return _stop(parts, signals, patience_s)


def _stop(parts: Sequence[Part], signals: list[int], patience_s: float) -> int:
    """Ends the parts and waits; a second signal to this process kills them at once.

    Returns 0 if all ended well, 128 and the number of a second signal, else 1.
    """
    first = max(len(signals), 1)
    running = [part for part in parts if part.runs]
    for part in running:
        part.stop()
    deadline = time.monotonic() + patience_s
    while any(part.runs for part in running):
        _let_exit_in_order(running)
        if len(signals) > first or time.monotonic() > deadline:
            for part in running:
                part.send_signal(signal.SIGKILL)
        time.sleep(POLL_S / 2)
    for part in parts:
        part.let_exit()
    if len(signals) > first:
        return 128 + signals[-1]
    # Without a handler yet, a part that was just started ends by the signal itself.
    failed = [part for part in running if part.status not in (0, -signal.SIGTERM)]
    for part in failed:
        logger.error("the %s ended %s", part.name, part.outcome)
    return int(bool(failed))


def _let_exit_in_order(parts: Sequence[Part]) -> None:
    for part in parts:
        part.let_exit()
        if part.runs:
            return


def _prepare() -> None:
    """Runs in a part before its program."""
    # Until it shows its stacks at this signal, it would end by it.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if sys.platform == "linux":
        # Should this process be killed, the kernel tells the part to stop.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
