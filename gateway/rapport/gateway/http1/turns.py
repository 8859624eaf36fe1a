"""Turns of work that nobody waits for next."""

from __future__ import annotations

import asyncio


class Turns:
    """Lets one who has more to do than others go on in each round of the event loop.

    So however many they are, who has little to do waits for one of them at most.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def wait(self) -> None:
        """Returns in a later round, in the order of the calls."""
        async with self._lock:
            await asyncio.sleep(0)
