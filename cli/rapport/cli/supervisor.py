"""Runs the parts of `rapport serve`, starts again the one that crashed, and ends them."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from rapport.common.process import READY_FD

logger = logging.getLogger("rapport.serve")

POLL = 0.05
# Seconds from a crash to the next start. They double with each crash, until a part has run for
# long enough that its next crash is a first one again.
FIRST_PAUSE, LONGEST_PAUSE, RAN_WELL = 0.5, 30.0, 60.0
PR_SET_PDEATHSIG = 1
# Of a part that never served, because something is wrong with its settings or its start.
BAD_START, BAD_SETTINGS = 1, 2


class StartFailedError(Exception):
    """A part ended before it ever served; it has said itself why. `status` is its exit status."""

    def __init__(self, part: Part) -> None:
        super().__init__(f"the {part.name} could not start: it ended {part.end}")
        self.status = BAD_SETTINGS if part.status == BAD_SETTINGS else BAD_START


class Part:
    """A process that is to run for good."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.name = name
        self.process: subprocess.Popen[bytes] | None = None
        self._command = command
        self._environment = environment
        self._served = False
        self._pause = FIRST_PAUSE
        self._due: float | None = None

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def status(self) -> int:
        """How it ended: its exit status, or a signal's number, negative. 0 while it runs."""
        return (self.process and self.process.returncode) or 0

    @property
    def end(self) -> str:
        """The same in words."""
        if self.status < 0:
            return f"by {signal.Signals(-self.status).name}"
        return f"with status {self.status}"

    def start(self) -> None:
        ready, told = os.pipe()
        os.set_blocking(ready, False)
        self._ready = os.fdopen(ready, "rb", buffering=0)
        self._began, self._due = time.monotonic(), None
        # In a session of its own: Ctrl-C reaches only this process, which passes it on once.
        self.process = subprocess.Popen(  # noqa: S603 - one of our own programs
            self._command,
            env={**self._environment, READY_FD: str(told)},
            pass_fds=(told,),
            start_new_session=True,
            preexec_fn=prepare,  # noqa: PLW1509 - this process has one thread
        )
        os.close(told)

    def tend(self) -> None:
        """Restarts it in due time if it has ended. Raises StartFailedError if it never served."""
        runs = self.runs
        self._hear()  # of one that has ended, all that it said
        if runs:
            return
        if not self._served:
            raise StartFailedError(self)
        if self._due is None:
            self._put_off()
        elif time.monotonic() >= self._due:
            self.start()

    def _hear(self) -> None:
        """Notes whether it says that it serves, or ended without."""
        if not self._ready.closed and (said := self._ready.read(1)) is not None:
            self._served = self._served or said != b""
            self._ready.close()

    def _put_off(self) -> None:
        now = time.monotonic()
        if now - self._began >= RAN_WELL:
            self._pause = FIRST_PAUSE
        logger.error("the %s ended %s; it starts again in %g s", self.name, self.end, self._pause)
        self._due = now + self._pause
        self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def tell(self, number: int) -> None:
        if self.process is not None:
            self.process.send_signal(number)  # does nothing where it has ended

    def close(self) -> None:
        """Listens no longer for whether it serves."""
        self._ready.close()


def supervise(parts: Sequence[Part], told: list[int], patience: float) -> int:
    """Runs the parts until `told` has a signal. Returns the exit status.

    `patience` is in seconds: from then to the end of parts that do not end by themselves.
    """
    for part in parts:
        part.start()
    try:
        while not told:
            for part in parts:
                part.tend()
            time.sleep(POLL)
    except StartFailedError as error:
        stop(parts, told, patience)
        logger.error("%s", error)  # noqa: TRY400 - the line is for users
        return error.status
    return stop(parts, told, patience)


def stop(parts: Sequence[Part], told: list[int], patience: float) -> int:
    """Tells the parts to stop and waits; a second signal to this process ends them at once.

    Returns 0 if all ended well, 128 and the number of a second signal, else 1.
    """
    first = max(len(told), 1)
    running = [part for part in parts if part.runs]
    for part in running:
        part.tell(signal.SIGTERM)
    deadline = time.monotonic() + patience
    while any(part.runs for part in running):
        if len(told) > first or time.monotonic() > deadline:
            for part in running:
                part.tell(signal.SIGKILL)
        time.sleep(POLL / 2)
    for part in parts:
        part.close()
    if len(told) > first:
        return 128 + told[-1]
    # Without a handler yet, a part that was just started ends by the signal itself.
    failed = [part for part in running if part.status not in (0, -signal.SIGTERM)]
    for part in failed:
        logger.error("the %s ended %s", part.name, part.end)
    return int(bool(failed))


def prepare() -> None:
    """Runs in a part before its program."""
    # Until it shows its stacks at this signal, it would end by it.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if sys.platform == "linux":
        # Should this process be killed, the kernel tells the part to stop.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
