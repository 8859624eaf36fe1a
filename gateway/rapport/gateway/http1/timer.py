"""A timer that can be started again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Timer:
    """Calls something later; what was to be called before is not. For the running event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.TimerHandle | None = None

    @property
    def is_started(self) -> bool:
        """Whether it was started and not stopped since, also when it has made its call."""
        return self._handle is not None

    def start(self, seconds: float, call: Callable[[], None]) -> None:
        self.stop()
        self._handle = self._loop.call_later(seconds, call)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
