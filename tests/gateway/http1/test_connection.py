"""Clients on raw sockets that close, half close, reset, and do not read."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from tests.gateway.conftest import Serve
from tests.gateway.library import Library

PATIENCE = 0.4
ENDLESS = {"stream": True, "count": 100_000, "size": 10_000}
CALM = {"stream": True, "count": 100, "pause_ms": 50}
UNBEGUN = {"stream": True, "count": 1, "hang_after": 0}
SILENT = {"stream": True, "count": 3, "hang_after": 2}
MUTE = {"hang_after": 0}


def request(body: dict[str, Any], version: str = "1.1") -> bytes:
    content = json.dumps(body).encode()
    head = f"POST /v1/tell HTTP/{version}\r\nhost: x\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(content)}\r\n\r\n".encode() + content


class Client:
    """A socket that says exactly what it is told to."""

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


@pytest.mark.parametrize(
    ("body", "end"),
    [
        ({"size": 2}, b'"text":"xx","metadata":'),
        ({"size": 2_000_000}, b'xx","metadata":'),
        ({"stream": True, "count": 3, "pause_ms": 100}, b"data: [DONE]\n\n\r\n0\r\n\r\n"),
    ],
)
async def test_half_closed_client_gets_its_answer(
    client: httpx.AsyncClient, body: dict[str, Any], end: bytes
) -> None:
    """Who says that it sends no more is answered, whole, and then the connection ends."""
    async with connected(client) as raw:
        await raw.send(request(body))
        raw.half_close()
        answer = await raw.receive()
    assert b"HTTP/1.1 200 OK" in answer
    assert b"connection: close" in answer
    assert end in answer


async def test_half_closed_while_it_waits(client: httpx.AsyncClient, library: Library) -> None:
    """Before the answer begins an interim response finds out who is still there."""
    async with connected(client) as raw:
        await raw.send(request({"stream": True, "count": 2, "hang_after": 1}))
        await library.started.wait()
        raw.half_close()
        await raw.until(b"data: ")
        await asyncio.sleep(0.3)
        assert not library.ended.is_set()


async def test_half_closed_pipeline(client: httpx.AsyncClient) -> None:
    """Each of the requests that came before the half close has its answer, in order."""
    async with connected(client) as raw:
        bodies = [{"size": size} for size in (1, 2, 3)]
        await raw.send(b"".join(map(request, bodies)))
        raw.half_close()
        answer = await raw.receive()
    assert [answer.count(text) for text in (b'"x"', b'"xx"', b'"xxx"')] == [1, 1, 1]
    assert answer.index(b'"x"') < answer.index(b'"xx"') < answer.index(b'"xxx"')


@pytest.mark.parametrize("leave", [Client.close, Client.reset])
@pytest.mark.parametrize(
    "body",
    [MUTE, UNBEGUN, SILENT, CALM],
    ids=str,
)
async def test_a_client_that_is_gone_ends_its_call(
    client: httpx.AsyncClient, library: Library, body: dict[str, Any], leave: Any
) -> None:
    """Gone is not half closed: whether it waits or reads, closed or reset, its call ends."""
    async with connected(client) as raw:
        await raw.send(request(body))
        await asyncio.wait_for(library.started.wait(), 5)
        await asyncio.sleep(0.1)
        leave(raw)
        await asyncio.wait_for(library.ended.wait(), 2)


NEXT = request({"size": 1})
# The two pieces that come one after the other, behind the first request.
BEHIND = [(NEXT, b""), (b"", NEXT), (NEXT, request(CALM)), (b"", NEXT[:-4])]


@pytest.mark.parametrize("leave", [Client.close, Client.reset])
@pytest.mark.parametrize("behind", BEHIND, ids=[f"{len(a)}-{len(b)}" for a, b in BEHIND])
@pytest.mark.parametrize("body", [MUTE, SILENT, CALM], ids=str)
async def test_a_client_that_is_gone_with_requests_in_line(
    client: httpx.AsyncClient,
    library: Library,
    body: dict[str, Any],
    behind: tuple[bytes, bytes],
    leave: Any,
) -> None:
    """The call under way ends also if other requests wait behind it, which never begin."""
    async with connected(client) as raw:
        await raw.send(request(body) + behind[0])
        await asyncio.wait_for(library.started.wait(), 5)
        await asyncio.sleep(0.1)
        await raw.send(behind[1])
        await asyncio.sleep(0.1)
        library.started.clear()
        leave(raw)
        await asyncio.wait_for(library.ended.wait(), 2)
        await asyncio.sleep(0.05)
        assert not library.started.is_set()


async def test_half_closed_while_its_requests_wait(client: httpx.AsyncClient) -> None:
    """Nothing is read while requests wait; whoever half closes meanwhile has all its answers."""
    async with connected(client) as raw:
        await raw.send(request({"stream": True, "count": 5, "pause_ms": 100}))
        await raw.until(b"data: ")
        for size in (1, 2, 3):
            await raw.send(request({"size": size}))
            await asyncio.sleep(0.02)
        raw.half_close()
        answer = await raw.receive()
    assert [answer.count(text) for text in (b'"x"', b'"xx"', b'"xxx"')] == [1, 1, 1]
    assert answer.index(b"data: [DONE]") < answer.index(b'"x"') < answer.index(b'"xxx"')


async def test_gone_after_a_half_close(client: httpx.AsyncClient, library: Library) -> None:
    """Who half closes and then goes is found out by the next thing that is sent."""
    async with connected(client) as raw:
        await raw.send(request(CALM))
        raw.half_close()
        await raw.until(b"data: ")
        assert not library.ended.is_set()
        raw.close()
        await asyncio.wait_for(library.ended.wait(), 2)


@pytest.mark.parametrize("leave", [Client.close, Client.half_close, Client.reset])
@pytest.mark.parametrize("sent", [b"", b"POST /v1/te", request({"size": 1})[:-4]], ids=len)
async def test_a_request_that_never_came_is_nobodys(
    client: httpx.AsyncClient, library: Library, leave: Any, sent: bytes
) -> None:
    """Before the headers and in the body there is nothing to answer: the connection ends."""
    async with connected(client) as raw:
        await raw.send(sent)
        await asyncio.sleep(0.05)
        leave(raw)
        if leave is Client.half_close:
            assert await raw.receive(2) == b""
    assert (await client.post("/v1/tell", json={"size": 1})).status_code == 200
    assert not library.started.is_set() or library.ended.is_set()


async def test_an_old_client_gets_no_interim_response(client: httpx.AsyncClient) -> None:
    """HTTP/1.0 knows none, so half closed is gone there."""
    async with connected(client) as raw:
        await raw.send(request({"stream": True, "count": 9, "pause_ms": 100}, "1.0"))
        raw.half_close()
        assert b"100 Continue" not in await raw.receive()


@pytest.mark.parametrize("body", [ENDLESS, {"size": 20_000_000}], ids=["stream", "whole"])
async def test_stuck_reader_is_cut(
    serve: Serve, library: Library, caplog: pytest.LogCaptureFixture, body: dict[str, Any]
) -> None:
    """Who reads nothing is reset after a while, the call is cancelled, and the log says so."""
    caplog.set_level(logging.INFO)
    async with serve(reader_timeout=PATIENCE) as client, connected(client) as raw:
        await raw.send(request(body))
        await asyncio.wait_for(library.ended.wait(), 10)
        async with asyncio.timeout(5):
            while "is cut: it read nothing for 0.4 s" not in caplog.text:  # noqa: ASYNC110 - a log tells no one
                await asyncio.sleep(0.05)
        with pytest.raises(ConnectionResetError):
            await raw.receive()
        assert (await client.post("/v1/tell", json={"size": 1})).status_code == 200


async def test_slow_reader_is_never_cut(
    serve: Serve, library: Library, caplog: pytest.LogCaptureFixture
) -> None:
    """Who reads a little now and then gets everything, in many times the patience."""
    body = {"size": 6_000_000}
    async with serve(reader_timeout=PATIENCE) as client, connected(client) as raw:
        raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        await raw.send(request(body))
        received, began = 0, asyncio.get_running_loop().time()
        async with asyncio.timeout(20):
            while received < body["size"]:
                received += len(await asyncio.get_running_loop().sock_recv(raw.socket, 1 << 17))
                await asyncio.sleep(0.05)
        assert asyncio.get_running_loop().time() - began > 3 * PATIENCE
    assert library.ended.is_set()
    assert "is cut" not in caplog.text
