"""A drain waits for the RPCs that are in flight."""

from __future__ import annotations

import asyncio

import pytest

from rapport.service.interceptors.in_flight import InFlightRequests
from tests.service.fakes import request_context


async def test_none_comes_with_the_last() -> None:
    """However they end, and though new ones come between, it is over with the last."""
    in_flight = InFlightRequests()
    await in_flight.wait_until_none()
    async with in_flight.scope(request_context()):
        waiting = asyncio.create_task(in_flight.wait_until_none())
        with pytest.raises(ValueError, match="failed"):
            async with in_flight.scope(request_context()):
                raise ValueError("failed")
        await asyncio.sleep(0)
        assert not waiting.done()
    await asyncio.wait_for(waiting, 5)
