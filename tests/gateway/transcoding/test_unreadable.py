"""What is no HTTP gets the error shape that all errors have, behind the answers before it."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from tests.gateway.http1.raw import connected, request
from tests.gateway.library import Library

CHUNKED = (
    b"POST /v1/echo HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
LARGE_CHUNK = b"11170\r\n" + b" " * 0x11170 + b"\r\n"
JUNK = [
    b"xxxx\r\n\r\n",
    b"GET /v1/books/7 HTTP/1.1\r\nno header\r\n\r\n",
    b"GET /v1/\xc3\xa9 HTTP/1.1\r\nhost: x\r\n\r\n",
    b"GET v1/books/7 HTTP/1.1\r\nhost: x\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"POST /v1/echo HTTP/1.1\r\nhost: x\r\ncontent-length: many\r\n\r\n",
    CHUNKED + b"no size\r\n",
    CHUNKED + LARGE_CHUNK + b"no size\r\n",
]
STREAM = {"stream": True, "count": 5, "pause_ms": 60}
GET = b"GET /v1/books/7 HTTP/1.1\r\nhost: x\r\n\r\n"


def assert_refused(answer: bytes) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/json" in head
    assert b"connection: close" in head
    assert json.loads(body)["error"] == {
        "object": "error",
        "type": "invalid_request_error",
        "code": "invalid_request_error",
        "message": "Invalid HTTP request received.",
        "param": None,
    }


@pytest.mark.parametrize("junk", JUNK, ids=range(len(JUNK)))
async def test_what_is_no_http(client: httpx.AsyncClient, junk: bytes) -> None:
    """Heads, targets and chunks that cannot be read are a 400 in JSON, and the end."""
    async with connected(client) as raw:
        await raw.send(junk)
        assert_refused(await raw.receive())


@pytest.mark.parametrize("junk", JUNK, ids=range(len(JUNK)))
async def test_what_is_no_http_behind_an_answer(client: httpx.AsyncClient, junk: bytes) -> None:
    """So is what comes over a connection that has had an answer before."""
    async with connected(client) as raw:
        await raw.send(GET)
        await raw.until(b"}")
        await raw.send(junk)
        assert_refused(await raw.receive())


@pytest.mark.parametrize("pause", [0, 0.1])
@pytest.mark.parametrize("junk", JUNK[:-1], ids=range(len(JUNK) - 1))
async def test_answer_under_way(client: httpx.AsyncClient, junk: bytes, pause: float) -> None:
    """Behind a request whose answer is under way that answer comes whole, and then the error."""
    async with connected(client) as raw:
        await raw.send(request(STREAM) + (b"" if pause else junk))
        await asyncio.sleep(pause)
        await raw.send(junk + b"more\r\n" * 20_000)
        answer = await raw.receive()
    assert answer.startswith(b"HTTP/1.1 200 ")
    _, end, refusal = answer.partition(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert end
    assert_refused(refusal)


@pytest.mark.parametrize("junk", [JUNK[0], JUNK[2], JUNK[6]], ids=["head", "target", "chunk"])
async def test_answers_in_line(client: httpx.AsyncClient, junk: bytes) -> None:
    """The requests that came whole before it are all answered, also to who half closes then."""
    async with connected(client) as raw:
        await raw.send(request(STREAM) + request({"size": 2}) + GET + junk)
        raw.half_close()
        answer = await raw.receive()
    assert answer.count(b"HTTP/1.1 200 ") == 3
    assert_refused(answer[answer.index(b"HTTP/1.1 400 ") :])
    assert answer.index(b"data: [DONE]") < answer.index(b'"xx"') < answer.index(b'"number":7')


@pytest.mark.parametrize("junk", [JUNK[0], JUNK[2], JUNK[6]], ids=["head", "target", "chunk"])
async def test_gone_behind_junk(client: httpx.AsyncClient, library: Library, junk: bytes) -> None:
    """A client that sends it and goes takes the call under way with it."""
    async with connected(client) as raw:
        await raw.send(request({"hang_after": 0}) + junk)
        await asyncio.wait_for(library.started.wait(), 5)
        raw.close()
        await asyncio.wait_for(library.ended.wait(), 2)
