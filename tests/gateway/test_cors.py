"""Calls from pages of other origins."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.gateway.conftest import Serve
from tests.gateway.http1.streams import connected, last_words

PAGE = "https://chat.example.org"
ALLOWED = "access-control-allow-origin"
PREFLIGHT = {
    "origin": PAGE,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-lang",
}


def told(reply: httpx.Response) -> dict[str, str]:
    """What a response says of other origins."""
    return {name: text for name, text in reply.headers.items() if name.startswith("access-control")}


async def test_off_by_default(client: httpx.AsyncClient) -> None:
    """Without the setting nothing is said, and a browser's question is no request."""
    for headers in ({}, {"origin": PAGE}):
        reply = await client.post("/v1/echo", json={}, headers=headers)
        assert (told(reply), "vary" in reply.headers) == ({}, False)
    assert (await client.options("/v1/echo", headers=PREFLIGHT)).status_code == 405


@pytest.mark.parametrize(("origins", "shown"), [(f"https://a.org, {PAGE}", PAGE), ("*", "*")])
async def test_answers(serve: Serve, origins: str, shown: str) -> None:
    """Whole answers, streams and errors may be read, and their own headers seen."""
    async with serve(http_cors_origins=origins) as client:
        requests: list[tuple[str, Any, int]] = [
            ("/v1/echo", {}, 200),
            ("/v1/echo", {"nothing": 1}, 400),
            ("/v1/nothing", {}, 404),
            ("/v1/tell", {"stream": True}, 200),
        ]
        for path, body, status in requests:
            reply = await client.post(path, json=body, headers={"origin": PAGE})
            assert (reply.status_code, reply.headers[ALLOWED]) == (status, shown)
            assert "x-request-id" in reply.headers["access-control-expose-headers"].split(", ")
            assert reply.headers.get("vary") == (None if shown == "*" else "Origin")


@pytest.mark.parametrize(
    ("rest", "status"),
    [
        (b"a: b\r\n" * 300, 431),
        (b"a: " + b"b" * 70_000, 431),
        (b"transfer-encoding: gzip\r\n\r\n", 501),
        (b"a\x00: b\r\n\r\n", 400),
        (b"a: never ends", 408),
    ],
)
async def test_heads_that_are_no_requests(serve: Serve, rest: bytes, status: int) -> None:
    """What is refused before it is read as a request may be read by the page that sent it."""
    head = f"POST /v1/echo HTTP/1.1\r\nHost: x\r\nOrigin: {PAGE}\r\n".encode()
    async with (
        serve(http_cors_origins=PAGE, read_timeout=0.4) as client,
        connected(client) as (reader, writer),
    ):
        writer.write(head + rest + b"\r\n\r\n" * (status == 431))
        answer = await last_words(reader)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert f"\r\n{ALLOWED}: {PAGE}\r\n".encode() in answer


async def test_preflight(serve: Serve) -> None:
    """A browser may ask without a key, and learns methods and headers."""
    async with serve(http_cors_origins=PAGE) as client:
        reply = await client.options("/v1/echo", headers=PREFLIGHT)
        assert (reply.status_code, reply.content) == (200, b"")
        assert told(reply) == {
            ALLOWED: PAGE,
            "access-control-allow-methods": "GET, HEAD, POST",
            "access-control-allow-headers": "authorization,content-type,x-stainless-lang",
            "access-control-max-age": "600",
            "access-control-expose-headers": "x-request-id",
        }


@pytest.mark.parametrize("origin", ["https://evil.org", f"{PAGE}.evil.org", "null", ""])
async def test_other_origins(serve: Serve, origin: str) -> None:
    """Pages of other origins get no leave."""
    async with serve(http_cors_origins=PAGE) as client:
        asked = await client.options("/v1/echo", headers=PREFLIGHT | {"origin": origin})
        sent = await client.post("/v1/echo", json={}, headers={"origin": origin})
        assert (told(asked), told(sent)) == ({}, {})
        assert (asked.status_code, sent.headers["vary"]) == (405, "Origin")
