"""Connections to a gateway, as asyncio's streams, and what comes over them."""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import repeat

import httpx

GET = b"GET /v1/books/7 HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
TELL = b"POST /v1/tell HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"

Streams = tuple[StreamReader, StreamWriter]
Connect = Callable[..., AbstractAsyncContextManager[Streams]]


@asynccontextmanager
async def connected(client: httpx.AsyncClient) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def trickle(writer: StreamWriter, pieces: AsyncIterator[bytes] | repeat[bytes]) -> None:
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(0.05)


async def last_words(reader: StreamReader) -> bytes:
    """What comes until the gateway hangs up."""
    return await asyncio.wait_for(reader.read(), 10)


async def answer(reader: StreamReader) -> tuple[int, bytes]:
    """Status and body of the next answer, which tells its length."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    lines = head.lower().split(b"\r\n")
    length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
    return int(head[9:12]), await reader.readexactly(length)
