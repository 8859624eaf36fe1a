"""A semaphore whose callers take turns, so that none of them waits for all that another wants."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class FairSemaphore:
    """Admits `size` holders at once, and of each caller `per_caller`. For one event loop alone.

    Callers that wait take turns (round robin); of one caller, the first to come goes first. A
    caller is whoever shares a name, such as the id of an API key.
    """

    def __init__(self, size: int, per_caller: int = 1) -> None:
        self._free = size
        self._per_caller = per_caller
        self._holders: Counter[str] = Counter()
        # The callers that wait, the next one first. Those that hold all they may are passed over;
        # they are no more than there are holders.
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    def __len__(self) -> int:
        """How many wait."""
        return sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def turn(self, caller: str) -> AsyncIterator[None]:
        """Waits for a turn of the caller, and holds it."""
        await self.acquire(caller)
        try:
            yield
        finally:
            self.release(caller)

    async def acquire(self, caller: str) -> None:
        """Waits for a turn of the caller. Every turn must be released."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(caller, deque()).append(waiter)
        self._admit()
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                self._withdraw(caller, waiter)
            else:
                self.release(caller)
            raise

    def release(self, caller: str) -> None:
        """Ends a turn of the caller."""
        self._free += 1
        self._holders[caller] -= 1
        if not self._holders[caller]:
            del self._holders[caller]
        self._admit()

    def _admit(self) -> None:
        while self._free and (caller := self._next()) is not None:
            line = self._waiting.pop(caller)
            waiter = line.popleft()
            if line:
                self._waiting[caller] = line
            # One that was cancelled just now has not withdrawn yet.
            if not waiter.cancelled():
                self._free -= 1
                self._holders[caller] += 1
                waiter.set_result(None)

    def _next(self) -> str | None:
        return next(
            (caller for caller in self._waiting if self._holders[caller] < self._per_caller), None
        )

    def _withdraw(self, caller: str, waiter: asyncio.Future[None]) -> None:
        line = self._waiting.get(caller, deque())
        if waiter in line:
            line.remove(waiter)
            if not line:
                del self._waiting[caller]
