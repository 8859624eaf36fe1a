"""Calls: unary and streamed, the twin, failures, disconnects and slow readers."""

from __future__ import annotations

import asyncio
import json
import resource
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import httpx
import orjson
import pytest

from rapport.gateway.app import THREADS
from tests.gateway.conftest import Serve
from tests.gateway.library import Library

STUCK = 48
LARGE = 1 << 20

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def sent(client: httpx.AsyncClient, body: dict[str, Any]) -> AsyncIterator[Connection]:
    """A raw socket on which the request was sent."""
    host, port = client.base_url.host, client.base_url.port
    reader, writer = await asyncio.open_connection(host, port)
    content = json.dumps(body).encode()
    head = "POST /v1/tell HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    writer.write(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def test_unary(client: httpx.AsyncClient) -> None:
    """Without the flag the unary RPC answers in JSON."""
    for body in ({}, {"stream": False}, {"stream": None}):
        reply = await client.post("/v1/tell", json={"size": 2, **body})
        assert reply.headers["content-type"] == "application/json"
        assert (reply.json()["text"], reply.json()["total"]) == ("xx", 0)


class HeldBack:
    """Stands for orjson where replies are rendered; a large one waits until it may go on."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.may_go_on = threading.Event()
        self.went_on: list[bool] = []

    def dumps(self, value: Any) -> bytes:
        if len(value["text"]) == LARGE:
            self.begun.release()
            self.went_on.append(self.may_go_on.wait(5))
        return orjson.dumps(value)


async def test_a_large_reply_holds_up_nobody(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While large replies are rendered, as many as there are threads, small ones are sent."""
    held = HeldBack()
    monkeypatch.setattr("rapport.gateway.transcoding.methods.orjson", held)
    keys = [{"authorization": f"Bearer {number}"} for number in range(THREADS)]
    asked = [client.post("/v1/tell", json={"size": LARGE}, headers=key) for key in keys]
    large = [asyncio.create_task(reply) for reply in asked]
    for _ in large:
        assert await asyncio.to_thread(held.begun.acquire, timeout=5)
    assert (await client.post("/v1/tell", json={"size": 1})).json()["text"] == "x"
    held.may_go_on.set()
    assert [(await reply).json()["text"] for reply in large] == ["x" * LARGE] * THREADS
    assert held.went_on == [True] * THREADS


async def test_stream_is_exact(client: httpx.AsyncClient) -> None:
    """With the flag the twin answers in events, to the byte, and ends with [DONE]."""
    reply = await client.post("/v1/tell", json={"count": 2, "size": 1, "stream": True})
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert reply.headers["cache-control"] == "no-cache"
    assert reply.headers["x-accel-buffering"] == "no"
    assert reply.content == (
        b'data: {"index":0,"text":"x","total":0}\n\n'
        b'data: {"index":1,"text":"x","total":1}\n\n'
        b"data: [DONE]\n\n"
    )


async def test_plain_server_stream(client: httpx.AsyncClient) -> None:
    """A server-streaming RPC with a route of its own answers in events, even with none."""
    reply = await client.get("/v1/watch", params={"count": 1})
    assert reply.content == b'data: {"index":0,"text":"","total":0}\n\ndata: [DONE]\n\n'
    assert (await client.get("/v1/watch")).content == b"data: [DONE]\n\n"


async def test_opt_out(client: httpx.AsyncClient) -> None:
    """A field is hidden if the request says false, and shown if it says true or nothing."""
    for said, shown in ((False, None), (True, 0), (None, 0)):
        body = {"count": 1, "options": {"show_total": said}}
        reply = await client.post("/v1/tell", json={**body, "stream": True})
        assert json.loads(reply.text.split("\n")[0].removeprefix("data: "))["total"] == shown
        reply = await client.post("/v1/tell", json=body)
        assert reply.json().get("total") == (None if said is False else 1)


async def test_failure_before_the_first_message(client: httpx.AsyncClient) -> None:
    """A stream that fails before its first message answers with the status line."""
    body = {"stream": True, "count": 1, "fail_after": 0, "code": 5, "message": "no such thing"}
    reply = await client.post("/v1/tell", json=body)
    assert reply.status_code == 404
    assert reply.json()["error"]["message"] == "no such thing"


async def read_into(received: bytearray, reply: httpx.Response) -> None:
    async for chunk in reply.aiter_raw():
        received += chunk


FAILING = {"stream": True, "count": 3, "fail_after": 1, "code": 13, "message": "broke"}


async def test_failure_mid_stream_on_the_wire(client: httpx.AsyncClient) -> None:
    """A stream that fails sends an error event, no [DONE], and no end of the body."""
    async with sent(client, FAILING) as (reader, _):
        everything = await asyncio.wait_for(reader.read(), 5)
    assert everything.count(b"data: ") == 2
    assert everything.endswith(
        b'data: {"error":{"object":"error","type":"internal_server_error",'
        b'"code":"internal_server_error","message":"broke","param":null}}\n\n\r\n'
    )
    assert b"[DONE]" not in everything


async def test_failure_mid_stream_for_a_client(client: httpx.AsyncClient) -> None:
    """An HTTP client sees that the body is incomplete."""
    received = bytearray()
    async with client.stream("POST", "/v1/tell", json=FAILING) as reply:
        with pytest.raises(httpx.RemoteProtocolError):
            await read_into(received, reply)
    assert received.endswith(b"}}\n\n")


async def test_fault_mid_stream(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault of the gateway in a stream is a bland error event, too."""
    monkeypatch.setattr("rapport.gateway.transcoding.sse.event.__code__", _faulty_once().__code__)
    async with sent(client, {"stream": True, "count": 1}) as (reader, _):
        everything = await asyncio.wait_for(reader.read(), 5)
    assert b"internal_server_error" in everything
    assert b"hidden" not in everything
    assert "the stream failed" in caplog.text


def _faulty_once() -> Any:
    def event(payload: bytes) -> bytes:
        if b"error" not in payload:
            raise KeyError("hidden")
        return b"data: " + payload + b"\n\n"

    return event


@pytest.mark.parametrize(
    "body",
    [
        {"hang_after": 0},
        {"stream": True, "count": 1, "hang_after": 0},
        {"stream": True, "count": 3, "hang_after": 2},
    ],
    ids=["unary", "before the first message", "mid-stream"],
)
async def test_disconnect_cancels(
    client: httpx.AsyncClient, library: Library, body: dict[str, Any]
) -> None:
    """When the client goes the call is cancelled at once."""
    async with sent(client, body):
        await asyncio.wait_for(library.started.wait(), 5)
        await asyncio.sleep(0.05)
        assert not library.ended.is_set()
    await asyncio.wait_for(library.ended.wait(), 2)


async def test_stop_cancels(serve: Serve, library: Library) -> None:
    """When the server stops, calls that go on after the grace are cancelled."""
    stream = {"stream": True, "count": 3, "hang_after": 2}
    async with AsyncExitStack() as sockets:
        async with serve() as client:
            reader, _ = await sockets.enter_async_context(sent(client, stream))
            waiting, _ = await sockets.enter_async_context(sent(client, {"hang_after": 0}))
            await reader.readuntil(b"data: ")
            await asyncio.sleep(0.1)
        assert b"[DONE]" not in await asyncio.wait_for(reader.read(), 5)
        assert (await waiting.readline()).startswith(b"HTTP/1.1 503 ")
    await asyncio.wait_for(library.ended.wait(), 2)


async def test_slow_reader_is_waited_for(client: httpx.AsyncClient, library: Library) -> None:
    """A client that does not read holds the service back instead of filling memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    endless = {"stream": True, "count": 100_000, "size": 10_000}
    async with sent(client, endless) as (reader, _):
        produced = -1
        while produced != library.produced:
            produced = library.produced
            await asyncio.sleep(0.3)
        grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        assert produced < 200
        assert grown_mib < 50
        await reader.readexactly(1_000_000)
        await asyncio.sleep(0.2)
        assert library.produced > produced
    await asyncio.wait_for(library.ended.wait(), 2)


async def test_stuck_readers_cost_the_others_nothing(
    client: httpx.AsyncClient, library: Library
) -> None:
    """However many clients do not read: little memory is held, and the others are answered."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    endless = {"stream": True, "count": 100_000, "size": 10_000}
    async with AsyncExitStack() as sockets:
        for _ in range(STUCK):
            await sockets.enter_async_context(sent(client, endless))
        produced = -1
        while produced != library.produced:
            produced = library.produced
            await asyncio.sleep(0.3)
        reply = await client.post("/v1/tell", json={"stream": True, "count": 300, "size": 1_000})
        assert reply.text.count("data: ") == 301
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert produced < 200 * STUCK
    assert grown_mib < 100


async def test_words_of_grpc_itself(client: httpx.AsyncClient) -> None:
    """What gRPC says of a service that is gone is not shown, for it names addresses."""
    body = {"fail_after": 0, "code": grpc.StatusCode.UNAVAILABLE.value[0], "message": "ipv4:1"}
    reply = await client.post("/v1/tell", json=body)
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    assert "ipv4" not in reply.text
