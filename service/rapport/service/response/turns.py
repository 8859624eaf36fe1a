"""Reads the deltas of a generation without keeping the event loop to itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable

from rapport.service.engine.request import Delta

# With log probabilities so many tokens take one or two hundredths of a second.
MAX_TOKENS_PER_TURN = 256
"""Tokens that are joined before other tasks have their turn, however many have gathered."""


async def yielding_to_others(deltas: AsyncIterable[Delta]) -> AsyncGenerator[Delta]:
    """The deltas. Other tasks have their turn in between, even if no delta has to be awaited."""
    tokens = 0
    async for delta in deltas:
        yield delta
        tokens += len(delta.token_ids)
        if tokens >= MAX_TOKENS_PER_TURN:
            tokens = 0
            await asyncio.sleep(0)
