"""What service and gateway have in common as processes."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys

SUPERVISOR_FD = "RAPPORT_SUPERVISOR_FD"
"""The variable that names the socket between a process and the supervisor that started it."""
HEARTBEAT_S = 1.0


def python_module(name: str) -> list[str]:
    """The command that runs a module in this Python.

    `-P` keeps the working directory off the import path: its modules are not part of Rapport.
    """
    return [sys.executable, "-P", "-m", name]


def show_stacks() -> None:
    """Has the stacks of all threads written to stderr: at SIGUSR1, and when the process crashes."""
    if sys.stderr is not None:  # as it is where a supervisor has closed it
        faulthandler.enable()
        faulthandler.register(signal.SIGUSR1)


class SupervisorLink:
    """The socket to the supervisor that started this process; without one nothing happens.

    The process sends a byte when it is ready and one each HEARTBEAT_S seconds from then on. The
    supervisor closes its end when the process may exit.
    """

    def __init__(self) -> None:
        # Not for the processes that this one starts.
        number = os.environ.pop(SUPERVISOR_FD, None)
        self._descriptor = None if number is None else int(number)
        if self._descriptor is not None:
            os.set_blocking(self._descriptor, False)
            os.set_inheritable(self._descriptor, False)  # noqa: FBT003 - the same

    def report_ready(self) -> None:
        """Reports that the process serves, and from then on that its event loop runs."""
        if self._descriptor is not None:
            self._beat(self._descriptor)

    @property
    def may_exit(self) -> bool:
        """Whether nobody needs this process any longer once it has drained."""
        if self._descriptor is None:
            return True
        try:
            return not os.read(self._descriptor, 1)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _beat(self, descriptor: int) -> None:
        try:
            os.write(descriptor, b".")
        except BlockingIOError:
            pass  # the supervisor is stopped and has many unread
        except OSError:
            return  # it is gone
        import asyncio  # noqa: PLC0415 - `rapport` starts other programs without it

        asyncio.get_running_loop().call_later(HEARTBEAT_S, self._beat, descriptor)
