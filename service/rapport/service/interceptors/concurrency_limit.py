"""A limit on concurrent RPCs. gRPC's own limit would refuse health checks, too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rapport.service.engine.errors import Bound, OverloadedError
from rapport.service.interceptors.context import RequestContext
from rapport.service.rpc.service_names import CHAT_SERVICE

RETRY_S = 1.0


class ConcurrencyLimit:
    """Refuses RPCs of the chat service beyond `max_rpcs` at once; others cost next to nothing."""

    def __init__(self, max_rpcs: int) -> None:
        self._max_rpcs = max_rpcs
        self._running = 0

    @asynccontextmanager
    async def scope(self, context: RequestContext) -> AsyncIterator[None]:
        """Admits the RPC, or raises `OverloadedError`."""
        if not context.method.startswith(f"/{CHAT_SERVICE}/"):
            yield
            return
        if self._running >= self._max_rpcs:
            raise OverloadedError("too many requests are under way", Bound.RPCS, RETRY_S)
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
