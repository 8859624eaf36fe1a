"""How many RPCs may be under way. gRPC's own bound would refuse health checks, too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rapport.service.engine.errors import Bound, Overloaded
from rapport.service.interceptors.interceptors import Call, Scope
from rapport.service.rpc.service_names import CHAT_SERVICE

RETRY_SECONDS = 1.0


def bound_calls(most: int) -> Scope:
    """Refuses RPCs of the chat service beyond so many at a time; others cost next to nothing."""
    under_way = 0

    @asynccontextmanager
    async def bounded(call: Call) -> AsyncIterator[None]:
        nonlocal under_way
        if not call.account.method.startswith(f"/{CHAT_SERVICE}/"):
            yield
            return
        if under_way >= most:
            raise Overloaded("too many requests are under way", Bound.RPCS, RETRY_SECONDS)
        under_way += 1
        try:
            yield
        finally:
            under_way -= 1

    return bounded
