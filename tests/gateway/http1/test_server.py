"""A gateway that is told to stop drains behind open doors."""

from __future__ import annotations

import asyncio
import signal
import socket
from urllib.parse import urlsplit

import httpx

from tests.gateway.conftest import until_learned
from tests.gateway.library import Library, serving
from tests.gateway.test_main import finished, running
from tests.gateway.upstream.test_upstream import until
from tests.plain_http import NO_CERTIFICATES

STREAM = {"stream": True, "count": 20, "pause_ms": 100}


def idle_connection(url: str) -> socket.socket:
    """A connection that is kept alive after a first answer."""
    address = urlsplit(url)
    connection = socket.create_connection((str(address.hostname), int(address.port or 0)), 10)
    connection.sendall(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n")
    answer = b""
    while not answer.endswith(b"}"):
        answer += connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 200")
    return connection


async def test_draining(library: Library) -> None:
    """New requests get a 503 that says so, idle connections end, and running streams finish."""
    async with (
        serving(library) as port,
        running("--upstream", f"127.0.0.1:{port}") as (process, url),
        httpx.AsyncClient(base_url=url, timeout=10, verify=NO_CERTIFICATES) as client,
    ):
        await until_learned(client)
        asked = asyncio.create_task(client.post("/v1/tell", json=STREAM))
        await library.started.wait()
        with await asyncio.to_thread(idle_connection, url) as idle:
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(idle.recv, 1) == b""
        for path in ("/v1/books/7", "/health", "/docs", "/nowhere"):
            refusal = await client.get(path)
            assert refusal.status_code == 503
            assert refusal.json()["error"]["message"] == "The server is shutting down"
            assert refusal.headers["retry-after"] == "1"
            assert refusal.headers["connection"] == "close"
            assert "x-should-retry" not in refusal.headers
        assert (await client.get("/health/live")).status_code == 200
        assert not asked.done()
        assert (await asked).text.endswith("data: [DONE]\n\n")
        assert (await finished(process))[0] == 0


async def test_drain_delay(library: Library) -> None:
    """Between the signal and the first refusal, health checks fail and requests are served."""
    async with (
        serving(library) as port,
        running("--upstream", f"127.0.0.1:{port}", "--drain-delay", "1") as (process, url),
        httpx.AsyncClient(base_url=url, timeout=10, verify=NO_CERTIFICATES) as client,
    ):
        await until_learned(client)
        process.send_signal(signal.SIGTERM)
        await until(client, "/health", 503)
        assert (await client.get("/v1/books/7")).status_code == 200
        assert (await finished(process))[0] == 0


async def test_second_signal_ends_a_drain_delay(library: Library) -> None:
    """A second signal does not wait for the delay either."""
    async with (
        serving(library) as port,
        running("--upstream", f"127.0.0.1:{port}", "--drain-delay", "60") as (process, url),
        httpx.AsyncClient(base_url=url, timeout=10, verify=NO_CERTIFICATES) as client,
    ):
        process.send_signal(signal.SIGTERM)
        await until(client, "/health", 503)
        await asyncio.sleep(0.3)
        process.send_signal(signal.SIGINT)
        assert (await finished(process))[0] == 128 + signal.SIGINT
