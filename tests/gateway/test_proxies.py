"""Behind proxies of other makers, with their defaults and with what docs/deploy.md says to set."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.gateway.conftest import Serve
from tests.gateway.library import Library
from tests.gateway.proxies import envoy, nginx
from tests.plain_http import NO_CERTIFICATES

JSON = {"content-type": "application/json"}
LARGE = json.dumps({"a_string": "x" * (2 << 20)}).encode()
# Of docs/deploy.md. Its defaults are HTTP/1.0 towards the gateway, and bodies of at most 1 MiB.
NGINX = 'proxy_http_version 1.1; proxy_set_header Connection ""; client_max_body_size 4m;'

Proxy = Callable[[Path, str], AbstractAsyncContextManager[str]]
PROXIES: dict[str, Proxy] = {
    "nginx with its defaults": nginx,
    "nginx": partial(nginx, settings=NGINX),
    "envoy with its defaults": envoy,
    "envoy": partial(envoy, timeout="0s"),
}


@pytest.fixture(params=PROXIES)
async def proxied(
    request: pytest.FixtureRequest, serve: Serve, tmp_path: Path
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway behind a proxy."""
    async with (
        serve() as client,
        PROXIES[request.param](tmp_path, str(client.base_url).rstrip("/")) as url,
        httpx.AsyncClient(base_url=url, timeout=20, verify=NO_CERTIFICATES) as outside,
    ):
        yield outside


@asynccontextmanager
async def pieces(client: httpx.AsyncClient, **body: object) -> AsyncIterator[AsyncIterator[bytes]]:
    """What comes of a stream, as it comes."""
    async with client.stream("POST", "/v1/tell", json={"stream": True, **body}) as reply:
        assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
        async with aclosing(reply.aiter_raw()) as chunks:
            yield chunks


async def test_streams(proxied: httpx.AsyncClient, library: Library) -> None:
    """A piece arrives before the next is made, and nothing else, such as sizes of chunks.

    When a client leaves, its call ends.
    """
    async with pieces(proxied, count=3, size=1) as chunks:
        text = b"".join([chunk async for chunk in chunks]).decode()
    events = text.split("\n\n")
    assert [event.partition(":")[0] for event in events] == ["data"] * 4 + [""]
    assert events[-2:] == ["data: [DONE]", ""]
    library.ended.clear()
    async with pieces(proxied, count=3, hang_after=1) as chunks:
        assert (await anext(chunks)).startswith(b"data: {")
        assert not library.ended.is_set()
    await library.ended.wait()


async def test_failed_streams(proxied: httpx.AsyncClient, request: pytest.FixtureRequest) -> None:
    """A stream that fails ends with its error event, and breaks off but over HTTP/1.0."""
    text, breaks_off = b"", False
    async with pieces(proxied, count=3, fail_after=1, code=13) as chunks:
        try:
            async for chunk in chunks:
                text += chunk
        except httpx.RemoteProtocolError:
            breaks_off = True
    assert b'data: {"error":' in text
    assert b"[DONE]" not in text
    assert breaks_off is not _is_nginx_with_its_defaults(request)


async def test_answers(proxied: httpx.AsyncClient, request: pytest.FixtureRequest) -> None:
    """Answers and errors come through with their headers, several on one connection.

    A body beyond a megabyte needs nginx to be set so; one that is announced may wait for leave.
    """
    for body, status in (({"a_string": "x"}, 200), ({"nothing": 1}, 400)):
        reply = await proxied.post("/v1/echo", json=body, headers={"x-request-id": "a1"})
        assert (reply.status_code, reply.headers["x-request-id"]) == (status, "a1")
    for headers in (JSON, JSON | {"expect": "100-continue"}):
        reply = await proxied.post("/v1/echo", content=LARGE, headers=headers)
        assert reply.status_code == (413 if _is_nginx_with_its_defaults(request) else 200)


def _is_nginx_with_its_defaults(request: pytest.FixtureRequest) -> bool:
    return "nginx with its defaults" in request.node.name
