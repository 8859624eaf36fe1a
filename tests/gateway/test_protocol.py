"""Connections: heads are bounded in size and time."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from gateway import protocol
from gateway.protocol import MOST_HEAD

GET = b"GET /v1/nowhere HTTP/1.1\r\nhost: x\r\n"
LINE = b"x-filler: %b\r\n" % (b"x" * 1000)

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connect(client: httpx.AsyncClient) -> Connection:
    assert client.base_url.port
    return await asyncio.open_connection(client.base_url.host, client.base_url.port)


async def answer(reader: asyncio.StreamReader) -> bytes:
    return await asyncio.wait_for(reader.readuntil(b"}}"), 5)


async def rest(reader: asyncio.StreamReader) -> bytes:
    return await asyncio.wait_for(reader.read(), 5)


async def test_endless_head(client: httpx.AsyncClient) -> None:
    """A head without an end is refused once it is too large, and the connection is closed."""
    reader, writer = await connect(client)
    writer.write(GET)
    answered = asyncio.create_task(rest(reader))
    for _ in range(2 * MOST_HEAD // len(LINE)):
        if answered.done():
            break
        writer.write(LINE)
        await asyncio.sleep(0.001)
    told = await answered
    assert told.startswith(b"HTTP/1.1 400 ")
    assert told.endswith(b"The head of the request is too large.")
    writer.close()


async def test_heads_are_bounded_one_by_one(client: httpx.AsyncClient) -> None:
    """Any number of heads of a fit size may come on one connection."""
    reader, writer = await connect(client)
    for _ in range(3):
        writer.write(GET)
        for _ in range(MOST_HEAD // len(LINE) // 2):
            writer.write(LINE)
            await writer.drain()
        writer.write(b"\r\n")
        assert (await answer(reader)).startswith(b"HTTP/1.1 404 ")
    writer.close()


@pytest.mark.parametrize("begun", [b"", GET])
async def test_slow_head(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    """A head that does not come, or not to its end, is not waited for for ever."""
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.1)
    reader, writer = await connect(client)
    writer.write(begun)
    assert await rest(reader) == b""
    writer.close()


async def test_slow_head_of_a_later_request(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same goes for a request that follows another; in between the connection may rest."""
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.1)
    reader, writer = await connect(client)
    writer.write(GET + b"\r\n")
    assert (await answer(reader)).startswith(b"HTTP/1.1 404 ")
    await asyncio.sleep(0.2)
    writer.write(GET)
    assert await rest(reader) == b""
    writer.close()
