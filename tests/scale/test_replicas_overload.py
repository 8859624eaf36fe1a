"""More requests than all replicas take are refused with the time to come back, and cost nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.scale.replicas import LIMIT_S, REPLICAS, replicas
from tests.scale.test_drain import body

pytestmark = [pytest.mark.scale, pytest.mark.timeout(300)]

REQUESTS = 60


async def test_overload_of_all(tiny_folder: Path, tmp_path: Path) -> None:
    """Each gets its answer or a 429, those that fit are served, and nobody is put out for it."""
    pace = {"inject_faults": True, "faults": "decode:delay=0.05"}
    with replicas(tmp_path, tiny_folder, slots=1, max_waiting=1, drain_delay=0, **pace) as running:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(
            base_url=running.rest, timeout=LIMIT_S, limits=limits, trust_env=False
        ) as http:
            asked = (
                http.post("/v1/chat/completions", json=body(f"request {number}"))
                for number in range(REQUESTS)
            )
            replies = await asyncio.gather(*asked)
        served = [reply for reply in replies if reply.is_success]
        refused = [reply for reply in replies if not reply.is_success]
        assert len(served) >= REPLICAS
        assert {reply.status_code for reply in refused} == {429}
        assert all(reply.headers["retry-after"] for reply in refused)
        assert running.serving() == REPLICAS
