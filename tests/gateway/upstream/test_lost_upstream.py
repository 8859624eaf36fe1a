"""A service that is killed outright, under the gateway's calls."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.gateway.conftest import gateway
from tests.gateway.library import descriptor_set
from tests.gateway.upstream.test_upstream import free_port, until

ROOT = Path(__file__).parents[3]
PROGRAM = """
import asyncio, sys
from tests.gateway.library import Library, serving

async def main():
    async with serving(Library(), int(sys.argv[1])):
        await asyncio.sleep(600)

asyncio.run(main())
"""


@asynccontextmanager
async def library_process(port: int) -> AsyncIterator[Process]:
    """The toy service in a process of its own, killed in the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, str(port), cwd=ROOT
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def first_event(client: httpx.AsyncClient, started: asyncio.Event) -> str:
    """All that a stream says that would never end."""
    body = {"stream": True, "count": 3, "hang_after": 1}
    said = ""
    async with client.stream("POST", "/v1/tell", json=body) as reply:
        try:
            async for text in reply.aiter_text():
                said += text
                started.set()
        except httpx.RemoteProtocolError:  # the body is left unfinished
            return said
    raise AssertionError("the body ended as if it were whole")


async def check_loss(client: httpx.AsyncClient, service: Process) -> None:
    """Kills the service under a stream and a whole call."""
    started = asyncio.Event()
    stream = asyncio.create_task(first_event(client, started))
    whole = asyncio.create_task(client.post("/v1/tell", json={"count": 1, "hang_after": 1}))
    await asyncio.wait_for(started.wait(), 10)
    await asyncio.sleep(0.1)
    service.kill()
    first, *_, last = (await asyncio.wait_for(stream, 5)).split("\n\n")[:-1]
    assert '"index":0' in first
    assert '"code":"UNAVAILABLE"' in last
    reply, later = await asyncio.wait_for(whole, 5), await client.get("/v1/books/7")
    for refusal in (reply, later):
        assert (refusal.status_code, refusal.headers["retry-after"]) == (503, "1")
        message = refusal.json()["error"]["message"]
        assert message == "The service is not available at the moment"


@pytest.mark.parametrize("learned", [True, False])
async def test_killed_and_back(tmp_path: Path, *, learned: bool) -> None:
    """Running calls end with an error at once, new ones are refused, until it is back.

    So it is whether the routes are learned from the service or known from a file.
    """
    file = tmp_path / "toy.binpb"
    file.write_bytes(descriptor_set())
    port = free_port()
    async with gateway(f"127.0.0.1:{port}", descriptor_set=None if learned else file) as client:
        for _ in range(2):
            async with library_process(port) as service:
                await until(client, "/v1/books/7", 200)
                await check_loss(client, service)
        async with library_process(port):
            await until(client, "/v1/books/7", 200)
