"""A client on a raw socket, which closes, half closes, resets, or does not read."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx


def request(body: dict[str, Any], version: str = "1.1") -> bytes:
    content = json.dumps(body).encode()
    head = f"POST /v1/tell HTTP/{version}\r\nhost: x\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(content)}\r\n\r\n".encode() + content


class Client:
    """A socket that sends what it is given."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.socket = socket.create_connection((client.base_url.host, client.base_url.port))
        self.socket.setblocking(False)
        self._loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.socket, data)

    async def receive(self, limit: float = 5) -> bytes:
        """What came up to the end of the connection."""
        received = b""
        async with asyncio.timeout(limit):
            while data := await self._loop.sock_recv(self.socket, 1 << 16):
                received += data
        return received

    async def until(self, mark: bytes) -> bytes:
        received = b""
        async with asyncio.timeout(5):
            while mark not in received:
                received += await self._loop.sock_recv(self.socket, 1 << 16)
        return received

    def half_close(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


@asynccontextmanager
async def connected(client: httpx.AsyncClient) -> AsyncIterator[Client]:
    raw = Client(client)
    try:
        yield raw
    finally:
        raw.close()
