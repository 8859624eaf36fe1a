"""Clients on raw sockets that close, half close and reset."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.gateway.http1.raw import Client, connected, request
from tests.gateway.library import Library

CALM = {"stream": True, "count": 100, "pause_ms": 50}
UNBEGUN = {"stream": True, "count": 1, "hang_after": 0}
SILENT = {"stream": True, "count": 3, "hang_after": 2}
MUTE = {"hang_after": 0}


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
