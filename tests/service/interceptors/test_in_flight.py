"""A drain waits for the RPCs that are under way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rapport.service.interceptors.in_flight import Underway

CALL: Any = None


async def test_none_comes_with_the_last() -> None:
    """However they end, and though new ones come between, it is over with the last."""
    underway = Underway()
    await underway.none()
    async with underway.counted(CALL):
        waiting = asyncio.create_task(underway.none())
        with pytest.raises(ValueError, match="failed"):
            async with underway.counted(CALL):
                raise ValueError("failed")
        await asyncio.sleep(0)
        assert not waiting.done()
    await asyncio.wait_for(waiting, 5)
