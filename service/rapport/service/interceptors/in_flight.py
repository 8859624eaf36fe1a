"""The RPCs that have not ended, which a drain waits for, and those that never began."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rapport.service.interceptors.context import RequestContext


class InFlightRequests:
    """Counts RPCs while they run."""

    def __init__(self) -> None:
        self.resets = 0
        """RPCs that were cancelled before anything was done for them."""
        self._count = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @asynccontextmanager
    async def scope(self, _context: RequestContext) -> AsyncIterator[None]:
        """Counts one RPC."""
        self._count += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._count -= 1
            if self._count == 0:
                self._idle.set()

    def count_reset(self) -> None:
        """Counts an RPC that was cancelled before anything was done for it."""
        self.resets += 1

    async def wait_until_none(self) -> None:
        """Returns when no RPC is running."""
        await self._idle.wait()
