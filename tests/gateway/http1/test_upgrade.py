"""Requests that offer an upgrade, which nobody has to take: they are read as any other."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.gateway.http1.raw import connected

OFFERS = [
    b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQ\r\n",
    b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n",
]
LAST = b"GET /v1/books/9 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


def get(book: int, offer: bytes = b"") -> bytes:
    return b"GET /v1/books/%d HTTP/1.1\r\nhost: x\r\n%b\r\n" % (book, offer)


def post(offer: bytes, framing: bytes, body: bytes) -> bytes:
    head = b"POST /v1/tell HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    return head + offer + framing + b"\r\n\r\n" + body


@pytest.mark.parametrize("offer", OFFERS, ids=["h2c", "websocket"])
async def test_what_follows_an_offer(client: httpx.AsyncClient, offer: bytes) -> None:
    """Requests behind one that offers an upgrade are answered, though they came in one piece."""
    async with connected(client) as raw:
        await raw.send(get(1, offer) + get(2) + get(3, offer) + get(4, offer) + LAST)
        answer = await raw.receive()
    assert answer.count(b"HTTP/1.1 200 ") == 5
    places = [answer.index(b'"number":%d' % book) for book in (1, 2, 3, 4, 9)]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("framing", "body"),
    [
        (b"content-length: 11", b'{"size": 5}'),
        (b"transfer-encoding: chunked", b'5\r\n{"siz\r\n6\r\ne": 5}\r\n0\r\n\r\n'),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_body_behind_an_offer(
    client: httpx.AsyncClient, framing: bytes, body: bytes, size: int
) -> None:
    """The body belongs to the request, in whatever pieces it comes, and is no next one."""
    sent = post(OFFERS[0], framing, body) + LAST
    async with connected(client) as raw:
        for begin in range(0, len(sent), size):
            await raw.send(sent[begin : begin + size])
        answer = await raw.receive()
    assert answer.count(b"HTTP/1.1 200 ") == 2
    assert answer.index(b'"xxxxx"') < answer.index(b'"number":9')


async def test_a_body_that_looks_like_a_request(client: httpx.AsyncClient) -> None:
    """Nobody smuggles a request in the body of one that offers an upgrade."""
    smuggled = get(6)
    framing = b"content-length: %d" % len(smuggled)
    async with connected(client) as raw:
        await raw.send(post(OFFERS[0], framing, smuggled) + LAST)
        answer = await raw.receive()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 2
    assert b'"number":6' not in answer


async def test_headers_of_an_offer(client: httpx.AsyncClient) -> None:
    """All other headers count as they do without it."""
    async with connected(client) as raw:
        await raw.send(get(1, OFFERS[0] + b"X-Request-Id: mine\r\nempty:\r\n") + LAST)
        answer = await raw.receive()
    assert b"x-request-id: mine" in answer


async def test_connect(client: httpx.AsyncClient) -> None:
    """A tunnel, which is an upgrade of its own, is refused."""
    async with connected(client) as raw:
        await raw.send(b"CONNECT example.org:443 HTTP/1.1\r\nhost: x\r\n\r\n")
        head, _, body = (await raw.receive()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["error"]["type"] == "invalid_request_error"
