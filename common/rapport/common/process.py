"""What service and gateway do alike as processes, beside their work."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys

READY_FD = "RAPPORT_READY_FD"
"""The variable that names the file descriptor to which a process says that it serves."""


def python_module(name: str) -> list[str]:
    """The command that runs a module in this Python.

    `-P` keeps the working directory off the import path: whatever modules lie in it are not ours.
    """
    return [sys.executable, "-P", "-m", name]


def show_stacks() -> None:
    """Has the stacks of all threads written to stderr: at SIGUSR1, and when the process crashes."""
    if sys.stderr is not None:  # as it is where a supervisor has closed it
        faulthandler.enable()
        faulthandler.register(signal.SIGUSR1)


def tell_ready() -> None:
    """Tells who started this process that it serves from now on, if that is asked for."""
    if descriptor := os.environ.get(READY_FD):
        with os.fdopen(int(descriptor), "wb") as ready:
            ready.write(b"\n")
