"""A connection to a gateway of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.gateway.conftest import Serve
from tests.gateway.http1.streams import Connect, Streams, connected


@pytest.fixture
def connect(serve: Serve) -> Connect:
    """A connection to a gateway that waits for 0.4 s, unless it is told otherwise."""

    @asynccontextmanager
    async def make(read_timeout: float = 0.4, **settings: Any) -> AsyncIterator[Streams]:
        async with (
            serve(read_timeout=read_timeout, **settings) as client,
            connected(client) as streams,
        ):
            yield streams

    return make
