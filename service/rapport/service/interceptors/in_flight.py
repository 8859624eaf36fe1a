"""The RPCs that have not ended, for a drain to wait for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rapport.service.interceptors.interceptors import Call


class Underway:
    """Counts RPCs while they run. `counted` is a scope of theirs."""

    def __init__(self) -> None:
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()

    @asynccontextmanager
    async def counted(self, _call: Call) -> AsyncIterator[None]:
        self._count += 1
        self._none.clear()
        try:
            yield
        finally:
            self._count -= 1
            if self._count == 0:
                self._none.set()

    async def none(self) -> None:
        """Returns when none is under way."""
        await self._none.wait()
