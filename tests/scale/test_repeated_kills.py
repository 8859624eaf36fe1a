"""A gateway outlives any number of services."""

from __future__ import annotations

import httpx
import psutil
import pytest

from tests.gateway.test_main import running
from tests.gateway.upstream.test_lost_upstream import check_loss, library_process
from tests.gateway.upstream.test_upstream import free_port, until

WARM_UP, KILLS = 5, 20
# What the allocator may keep; a channel, a pool of descriptors or a table kept for each
# service would take more.
SLACK = 4 << 20


@pytest.mark.scale
async def test_killed_again_and_again() -> None:
    """Each killed service fails its calls alone, and the gateway's memory stays flat."""
    port = free_port()
    sizes = []
    async with (
        running("--upstream", f"127.0.0.1:{port}") as (process, url),
        httpx.AsyncClient(base_url=url, timeout=10) as client,
    ):
        gateway = psutil.Process(process.pid)
        for _ in range(WARM_UP + KILLS):
            async with library_process(port) as service:
                await until(client, "/v1/books/7", 200)
                await check_loss(client, service)
            sizes.append(gateway.memory_info().rss)
    assert max(sizes[WARM_UP:]) - sizes[WARM_UP] < SLACK, sizes
