"""A log handler that never blocks its process."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque

MAX_WAITING_BYTES = 4 << 20
"""Size of the lines that may wait for a reader; further lines are dropped and counted."""
FLUSH_TIMEOUT_S = 1.0
"""How long the last lines are waited for when the process ends."""
RETRY_S = 0.05
"""Seconds between two tries where the descriptor does not block."""


class AsyncHandler(logging.Handler):
    """Writes lines to a file descriptor, from a thread of its own.

    A pipe that nobody reads would otherwise stop the process at its next line.
    """

    def __init__(self, descriptor: int, max_waiting_bytes: int = MAX_WAITING_BYTES) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._max_waiting_bytes = max_waiting_bytes
        self._lines: deque[bytes] = deque()
        self._waiting = 0
        """Bytes of lines that are not written yet."""
        self._dropped = 0
        self._changed = threading.Condition()
        threading.Thread(target=self._write_on, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record).encode(errors="backslashreplace") + b"\n"
        except Exception:  # noqa: BLE001 - a record that cannot be shown is dropped
            line = b""
        with self._changed:
            if not line or self._waiting + len(line) > self._max_waiting_bytes:
                self._dropped += 1
            else:
                self._lines.append(line)
                self._waiting += len(line)
            self._changed.notify_all()

    def flush(self) -> None:
        """Waits until all is written, or for `FLUSH_TIMEOUT_S` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting, FLUSH_TIMEOUT_S)

    def _write_on(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines or self._dropped)
                lines, self._lines = self._lines, deque()
                dropped, self._dropped = self._dropped, 0
            for line in lines:
                self._write(line)
                with self._changed:
                    self._waiting -= len(line)
                    self._changed.notify_all()
            if dropped:
                self._write(self._missing(dropped))

    def _missing(self, count: int) -> bytes:
        """A line that says how many lines were dropped."""
        message = f"{count} log lines before this one were dropped: they were not read in time"
        record = logging.LogRecord(__name__, logging.WARNING, "", 0, message, None, None)
        return self.format(record).encode() + b"\n"

    def _write(self, line: bytes) -> None:
        # One by one: what others write into the same pipe comes between lines of up to
        # PIPE_BUF bytes, and not into them.
        left = memoryview(line)
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:
                time.sleep(RETRY_S)
            except OSError:
                return  # nobody will ever read them
