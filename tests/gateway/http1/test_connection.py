"""Requests one after the other: slow and endless heads, pipelines, and how a connection ends."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from itertools import repeat
from typing import Any

import httpx
import pytest

from rapport.gateway.http1.connection import READ_AHEAD_BYTES
from rapport.gateway.http1.linger import LINGER_BYTES
from rapport.gateway.http1.parser import MAX_HEAD_BYTES
from tests.gateway.conftest import Serve
from tests.gateway.http1.raw import connected as raw_connected
from tests.gateway.http1.raw import request
from tests.gateway.http1.streams import (
    GET,
    POST,
    TELL,
    Connect,
    answer,
    connected,
    last_words,
    trickle,
)
from tests.gateway.library import Library

STREAM = b'{"stream": true, "count": 5, "pause_ms": 150}'


@pytest.mark.parametrize("begin", [b"", b"\r\n", b"GET /v1/books/7 HTTP/1.1\r\nX: "])
@pytest.mark.parametrize("rest", [b"", b"x"])
async def test_head_that_never_ends(connect: Connect, begin: bytes, rest: bytes) -> None:
    """A head that does not come in time is a 408, however busily it trickles in."""
    async with connect() as (reader, writer):
        writer.write(begin)
        trickling = asyncio.create_task(trickle(writer, repeat(rest)))
        response = await last_words(reader)
        trickling.cancel()
        head, _, body = response.partition(b"\r\n\r\n")
        if begin in (b"", b"\r\n") and rest:
            assert head.startswith(b"HTTP/1.1 400 ")  # xxxx is no method
            return
        assert head.startswith(b"HTTP/1.1 408 ")
        assert b"\r\nx-request-id: " in head
        assert b"connection: close" in head
        assert json.loads(body)["error"]["message"] == "The request did not come within 0.4 s"


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
        response = await last_words(reader)
        first, _, second = response.partition(b"data: [DONE]\n\n\r\n0\r\n\r\n")
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
        response = await last_words(reader)
        assert response.startswith(b"HTTP/1.1 431 ")
        assert b"larger than 65536 bytes" in response


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


async def test_pipeline_is_not_read_ahead(client: httpx.AsyncClient, library: Library) -> None:
    """While one request is answered, those behind it wait in the kernel, not in the gateway."""
    taken = 0
    async with raw_connected(client) as raw:
        await raw.send(request({"hang_after": 0}))
        await library.started.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                while taken < 1 << 30:
                    taken += await send_some(raw.socket, GET * 1000)
    assert taken > READ_AHEAD_BYTES
    assert taken < 32 << 20  # what two kernels hold of it


async def send_some(client: Any, data: bytes) -> int:
    await asyncio.get_running_loop().sock_sendall(client, data)
    return len(data)


async def test_pipelined_requests_take_turns_with_others(client: httpx.AsyncClient) -> None:
    """Thousands of requests in one piece hold up nobody: others are answered between them."""
    async with connected(client) as (reader, writer):
        writer.write(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n" * 2000 + GET)
        assert (await answer(reader))[0] == 200
        assert (await client.get("/health/live")).status_code == 200
        writer.transport.pause_reading()
        assert b'"number":7' not in reader._buffer  # type: ignore[attr-defined]


async def test_idle_connections_end(connect: Connect) -> None:
    """A connection without a request ends after keepalive_timeout, without a word."""
    async with connect(20, keepalive_timeout=0.2) as (reader, writer):
        writer.write(GET)
        assert (await answer(reader))[0] == 200
        assert await last_words(reader) == b""


async def test_refusal_is_seen_by_who_sends_on(connect: Connect) -> None:
    """Who is refused and goes on sending sees the refusal, and not a reset."""
    async with connect(20) as (reader, writer):
        writer.write(b"NONSENSE / HTTP/1.1\r\n\r\n" + b"x" * (LINGER_BYTES // 2))
        await writer.drain()
        assert (await last_words(reader)).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("offer", [b"connection: upgrade\r\nupgrade: h2c\r\n", b""])
async def test_old_client(client: httpx.AsyncClient, offer: bytes) -> None:
    """HTTP/1.0 is answered, whatever upgrade it offers, and then the connection ends."""
    async with connected(client) as (reader, writer):
        writer.write(b"GET /v1/books/7 HTTP/1.0\r\n" + offer + b"\r\n")
        response = await last_words(reader)
        assert response.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" in response


async def test_stream_for_an_old_client(client: httpx.AsyncClient) -> None:
    """HTTP/1.0 knows no chunks: the events come as they are, up to the connection's end."""
    async with raw_connected(client) as raw:
        await raw.send(request({"stream": True, "count": 2}, "1.0"))
        head, _, body = (await raw.receive()).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert body.startswith(b"data: {")
    assert body.endswith(b"}\n\ndata: [DONE]\n\n")


async def test_continue(client: httpx.AsyncClient) -> None:
    """Who asks whether to send a body is told so, unless the request is refused already."""
    expecting = b"expect: 100-continue\r\ncontent-length: %d\r\n\r\n"
    async with connected(client) as (reader, writer):
        writer.write(POST + expecting % 2)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"{}")
        assert (await answer(reader))[0] == 200
        writer.write(POST + expecting % (1 << 40))
        assert (await answer(reader))[0] == 413


async def test_trailers_are_dropped(serve: Serve, library: Library) -> None:
    """What stands behind a chunked body is no header: neither a key nor an id of the request."""
    trailers = b"authorization: Bearer stolen\r\nx-request-id: mine\r\n"
    async with serve() as client, connected(client) as (reader, writer):
        chunked = b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
        writer.write(TELL + chunked + trailers + b"\r\n" + GET)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"mine" not in head
        assert "authorization" not in library.metadata
