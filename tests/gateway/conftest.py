"""A gateway on a real socket, in front of the toy service."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
import pytest

from rapport.gateway.__main__ import hold_back
from rapport.gateway.app import Gateway
from rapport.gateway.config import GatewaySettings
from rapport.gateway.dialects.fireworks import FIREWORKS
from rapport.gateway.serving import server_of
from tests.gateway.library import Library, serving
from tests.plain_http import NO_CERTIFICATES

Serve = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@asynccontextmanager
async def gateway(
    target: str, *, verify: ssl.SSLContext = NO_CERTIFICATES, **settings: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway in front of the target; it has not learned the routes yet."""
    chosen = GatewaySettings(upstream=target, shutdown_grace=0, **settings)
    app = Gateway(chosen, FIREWORKS)
    server = server_of(app, chosen)
    listening = socket.create_server(("127.0.0.1", 0))
    hold_back(listening)
    scheme = "https" if chosen.http_tls else "http"
    url = f"{scheme}://127.0.0.1:{listening.getsockname()[1]}"

    async def serve_until_stopped() -> None:
        async with app.running():
            await server.serve(listening)

    running = asyncio.create_task(serve_until_stopped())
    try:
        async with httpx.AsyncClient(base_url=url, timeout=10, verify=verify) as client:
            yield client
    finally:
        server.stop()
        await running


async def until_learned(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(10):
        while (await client.get("/v1/nowhere")).status_code == 503:  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.02)


@pytest.fixture
async def library() -> AsyncIterator[Library]:
    return Library()


@pytest.fixture
def serve(library: Library) -> Serve:
    """Makes a client of a gateway with these settings in front of the library."""

    @asynccontextmanager
    async def make(*, max_receive: int = -1, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
        async with (
            serving(library, max_receive=max_receive) as port,
            gateway(f"127.0.0.1:{port}", **options) as client,
        ):
            await until_learned(client)
            yield client

    return make


@pytest.fixture
async def client(serve: Serve) -> AsyncIterator[httpx.AsyncClient]:
    async with serve() as client:
        yield client
