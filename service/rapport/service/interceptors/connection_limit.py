"""A limit on RPCs that need no key and may last: per connection first, then in all."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rapport.service.engine.errors import Bound, OverloadedError
from rapport.service.interceptors.context import RequestContext

RETRY_S = 1.0


class ConnectionLimit:
    """Refuses calls of some methods beyond `per_connection` at once, or `in_all`.

    Callers over a Unix socket have the file's permission, and are not limited.
    """

    def __init__(self, prefix: str, per_connection: int, in_all: int) -> None:
        """Takes the beginning of the methods' names."""
        self._prefix = prefix
        self._per_connection = per_connection
        self._in_all = in_all
        self._running: Counter[str] = Counter()

    @asynccontextmanager
    async def scope(self, context: RequestContext) -> AsyncIterator[None]:
        """Admits the RPC, or raises `OverloadedError`."""
        connection = context.rpc.peer()
        if not context.method.startswith(self._prefix) or connection.startswith("unix:"):
            yield
            return
        self._check(connection, context.method.rpartition("/")[2])
        self._running[connection] += 1
        try:
            yield
        finally:
            self._running[connection] -= 1
            if not self._running[connection]:
                del self._running[connection]

    def _check(self, connection: str, method: str) -> None:
        if self._running[connection] >= self._per_connection:
            text = f"the connection has {self._per_connection} calls of {method} under way"
        elif self._running.total() >= self._in_all:
            text = f"there are {self._in_all} calls of {method} under way"
        else:
            return
        raise OverloadedError(text, Bound.RPCS, RETRY_S)
