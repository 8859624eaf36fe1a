"""A limit on concurrent RPCs. gRPC's own limit would refuse health checks, too."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from rapport.service.engine.errors import Bound, OverloadedError
from rapport.service.interceptors.context import RequestContext

RETRY_S = 1.0


class ConcurrencyLimit:
    """Refuses RPCs where too many of the caller, or of all callers, are under way.

    A caller may have as many as there are places left: half of them when alone, so that a newcomer
    always finds room. Source: Choudhury and Hahne, Dynamic Queue Length Thresholds for
    Shared-Memory Packet Switches, 1998.
    """

    def __init__(self, places: int, is_counted: Callable[[str], bool]) -> None:
        """Takes the number of places, and which methods need one."""
        self._places = places
        self._is_counted = is_counted
        self._running: Counter[str] = Counter()

    @asynccontextmanager
    async def scope(self, context: RequestContext) -> AsyncIterator[None]:
        """Admits the RPC, or raises `OverloadedError`."""
        if not self._is_counted(context.method):
            yield
            return
        caller = context.caller
        if self._running[caller] >= self._places - self._running.total():
            raise OverloadedError("too many requests are under way", Bound.RPCS, RETRY_S)
        self._running[caller] += 1
        try:
            yield
        finally:
            self._running[caller] -= 1
            if not self._running[caller]:
                del self._running[caller]
