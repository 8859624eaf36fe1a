"""An exchange whose client is a fake."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import h11

from rapport.gateway.dialects.fireworks import FIREWORKS
from rapport.gateway.errors import ApiError
from rapport.gateway.http1.exchange import Exchange
from rapport.gateway.http1.parser import Request


class FakePeer:
    """Gives the pieces of a body, after which nothing comes, and keeps what is sent."""

    address = "192.0.2.1"
    closes = False

    def __init__(self, pieces: Iterable[bytes] = (b"",)) -> None:
        """A last piece of no bytes ends the body."""
        self.sent: list[h11.Event] = []
        self._pieces = iter(pieces)
        self._error = asyncio.Event()
        self._refusal: ApiError | None = None

    @property
    def body(self) -> bytes:
        """Of the response."""
        return b"".join(event.data for event in self.sent if isinstance(event, h11.Data))

    async def read_body(self) -> bytes:
        for piece in self._pieces:
            return piece
        await self._error.wait()
        assert self._refusal is not None
        raise self._refusal

    async def send(self, *events: h11.Event) -> None:
        self.sent += events

    def refuse_body(self, error: ApiError) -> None:
        self._refusal = error
        self._error.set()


def exchange(
    peer: FakePeer | None = None, method: str = "POST", path: str = "/", **headers: str
) -> Exchange:
    """A request on the peer."""
    given = [(name.replace("_", "-"), value) for name, value in headers.items()]
    request = Request(method, path, b"", "localhost", given)
    return Exchange(request, peer or FakePeer(), FIREWORKS, "http")
