"""How many calls of a kind run at once; a real connection is in `rpc/test_health_service.py`."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import SimpleNamespace
from typing import Any

import pytest

from rapport.service.engine.errors import OverloadedError
from rapport.service.interceptors.connection_limit import ConnectionLimit
from rapport.service.interceptors.context import RequestContext

ONE, OTHER, THIRD = "ipv4:127.0.0.1:1", "ipv4:127.0.0.1:2", "ipv6:[::1]:1"
LIMIT = {"per_connection": 2, "in_all": 3}


def call(
    limit: ConnectionLimit, peer: str, method: str = "/a/B"
) -> AbstractAsyncContextManager[None]:
    rpc: Any = SimpleNamespace(peer=lambda: peer)
    return limit.scope(RequestContext(rpc, method, ""))


async def test_connection_before_all() -> None:
    """A connection has its places, all have theirs, and a place that is left is free."""
    limit = ConnectionLimit("/a/", **LIMIT)
    async with AsyncExitStack() as running:
        for _ in range(2):
            await running.enter_async_context(call(limit, ONE))
        with pytest.raises(OverloadedError, match="the connection has 2 calls of B under way"):
            await running.enter_async_context(call(limit, ONE))
        async with call(limit, OTHER):
            with pytest.raises(OverloadedError, match="there are 3 calls of B under way"):
                await running.enter_async_context(call(limit, THIRD))
        await running.enter_async_context(call(limit, THIRD))


@pytest.mark.parametrize(("peer", "method"), [("unix:", "/a/B"), (ONE, "/b/B")])
async def test_unlimited(peer: str, method: str) -> None:
    """Callers over a Unix socket and other methods have no limit."""
    limit = ConnectionLimit("/a/", **LIMIT)
    async with AsyncExitStack() as running:
        for _ in range(10):
            await running.enter_async_context(call(limit, peer, method))
