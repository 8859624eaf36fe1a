"""What slow and endless requests get, over raw sockets."""

from __future__ import annotations

import asyncio
import json
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from itertools import repeat

import httpx
import pytest

from rapport.gateway.http1.parser import MAX_HEAD_BYTES
from tests.gateway.conftest import Serve

GET = b"GET /v1/books/7 HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
STREAM = b'{"stream": true, "count": 5, "pause_ms": 150}'
TELL = b"POST /v1/tell HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"

Streams = tuple[StreamReader, StreamWriter]
Connect = Callable[..., AbstractAsyncContextManager[Streams]]


@pytest.fixture
def connect(serve: Serve) -> Connect:
    """A connection to a gateway that waits for 0.4 s."""

    @asynccontextmanager
    async def make(read_timeout: float = 0.4) -> AsyncIterator[Streams]:
        async with serve(read_timeout=read_timeout) as client, connected(client) as streams:
            yield streams

    return make


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


@pytest.mark.parametrize("begin", [b"", b"\r\n", b"GET /v1/books/7 HTTP/1.1\r\nX: "])
@pytest.mark.parametrize("rest", [b"", b"x"])
async def test_head_that_never_ends(connect: Connect, begin: bytes, rest: bytes) -> None:
    """A head that does not come in time is a 408, however busily it trickles in."""
    async with connect() as (reader, writer):
        writer.write(begin)
        trickling = asyncio.create_task(trickle(writer, repeat(rest)))
        told = await last_words(reader)
        trickling.cancel()
        head, _, body = told.partition(b"\r\n\r\n")
        if begin in (b"", b"\r\n") and rest:
            assert head.startswith(b"HTTP/1.1 400 ")  # xxxx is no method
            return
        assert head.startswith(b"HTTP/1.1 408 ")
        assert b"\r\nx-request-id: " in head
        assert b"connection: close" in head
        assert json.loads(body)["error"]["message"] == "The request did not come within 0.4 s"


@pytest.mark.parametrize(
    "length", [b"Content-Length: 1000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"]
)
@pytest.mark.parametrize("rest", [b"", b"1\r\n1\r\n"])
async def test_body_that_never_ends(connect: Connect, length: bytes, rest: bytes) -> None:
    """So is a body."""
    async with connect() as (reader, writer):
        writer.write(POST + length)
        trickling = asyncio.create_task(trickle(writer, repeat(rest)))
        assert (await last_words(reader)).startswith(b"HTTP/1.1 408 ")
        trickling.cancel()


async def test_body_that_takes_its_time(connect: Connect) -> None:
    """A body that is large for its link has more time: it is slow, not idle."""
    async with connect() as (reader, writer):
        writer.write(POST + b"Content-Length: 20002\r\n\r\n{")
        for _ in range(20):
            writer.write(b" " * 1000)
            await asyncio.sleep(0.05)
        writer.write(b"}")
        assert (await answer(reader))[0] == 200


async def test_body_after_its_answer(connect: Connect) -> None:
    """A body that was refused by its length and still trickles in is not waited for."""
    async with connect() as (reader, writer):
        writer.write(POST + b"Content-Length: 999999999\r\n\r\n")
        status, _ = await answer(reader)
        assert status == 413
        trickling = asyncio.create_task(trickle(writer, repeat(b"x")))
        with suppress(ConnectionResetError):  # by what came too late
            assert await last_words(reader) == b""
        trickling.cancel()


async def test_long_answer(connect: Connect) -> None:
    """An answer may take longer than a request."""
    async with connect() as (reader, writer):
        writer.write(
            TELL + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(STREAM) + STREAM
        )
        assert (await last_words(reader)).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


@pytest.mark.parametrize("begun", [b"GET /v1", POST + b"Content-Length: 5\r\n\r\n{"])
async def test_next_request_waits_for_an_answer(connect: Connect, begun: bytes) -> None:
    """Half of the next request does not cut the answer to the one before it."""
    async with connect() as (reader, writer):
        writer.write(TELL + b"Content-Length: %d\r\n\r\n" % len(STREAM) + STREAM + begun)
        told = await last_words(reader)
        first, _, second = told.partition(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        assert first.startswith(b"HTTP/1.1 200 ")
        assert second.startswith(b"HTTP/1.1 408 ")


async def test_idle_between_requests(connect: Connect) -> None:
    """A connection that is kept alive may be idle for longer than a request may take."""
    async with connect() as (reader, writer):
        for _ in range(2):
            writer.write(GET)
            assert (await answer(reader))[0] == 200
            await asyncio.sleep(0.6)


@pytest.mark.parametrize(
    "head",
    [
        b"".join(b"x%d: 1\r\n" % number for number in range(10_000)),
        b"x: " + b"y" * MAX_HEAD_BYTES,
        b"x" * MAX_HEAD_BYTES,
    ],
)
async def test_large_head(connect: Connect, head: bytes) -> None:
    """Ten thousand headers, a long one and one without an end are a 431."""
    async with connect(20) as (reader, writer):
        writer.write(b"GET /v1/books/7 HTTP/1.1\r\n" + head)
        told = await last_words(reader)
        assert told.startswith(b"HTTP/1.1 431 ")
        assert b"larger than 65536 bytes" in told


async def test_long_url(connect: Connect) -> None:
    """So is a long request line."""
    async with connect(20) as (reader, writer):
        writer.write(b"GET /" + b"x" * MAX_HEAD_BYTES)
        assert (await last_words(reader)).startswith(b"HTTP/1.1 431 ")


async def test_endless_head(connect: Connect) -> None:
    """Of a head of 100 MB little is taken before the gateway hangs up."""
    sent = 0
    async with connect(20) as (_, writer):
        writer.write(b"GET /v1/books/7 HTTP/1.1\r\n")
        with suppress(ConnectionError):
            while sent < 100 << 20:
                sent += 65536
                writer.write(b"x: " + b"y" * 65531 + b"\r\n")
                await writer.drain()
    assert sent < 50 << 20


async def test_as_large_as_allowed(connect: Connect) -> None:
    """A head that is as large as it may be is read, in as many pieces as it comes."""
    head = (
        b"GET /v1/books/7 HTTP/1.1\r\nHost: x\r\nx: " + b"y" * (MAX_HEAD_BYTES - 60) + b"\r\n\r\n"
    )
    async with connect(20) as (reader, writer):
        for begin in range(0, len(head), 5000):
            writer.write(head[begin : begin + 5000])
            await asyncio.sleep(0.01)
        assert (await answer(reader))[0] == 200


async def test_many_heads_at_once(connect: Connect) -> None:
    """Requests that come in one piece are each measured alone."""
    count = MAX_HEAD_BYTES // len(GET) + 100
    async with connect(20) as (reader, writer):
        writer.write(GET * count)
        assert [(await answer(reader))[0] for _ in range(count)] == [200] * count
