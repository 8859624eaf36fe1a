"""Detects that the engine's thread has died or hangs."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
from contextlib import suppress

from rapport.service.engine.engine import Engine

logger = logging.getLogger("rapport.service")

MAX_TICK_S = 1.0


async def death_of(engine: Engine, died: asyncio.Event, limit: float) -> None:
    """Returns when the engine has died, or has been at one step for `limit` seconds; 0: no limit.

    For an engine that hangs, prints the stacks to stderr and calls `give_up`. It counts ticks
    rather than reading a clock, as a process that was paused does not hang.
    """
    tick = min(MAX_TICK_S, limit / 10) or None
    step, ticks = None, 0
    while not died.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(died.wait(), tick)
        ticks = ticks + 1 if step is not None and step == engine.step_started_at else 0
        step = engine.step_started_at
        if tick and ticks * tick >= limit:
            logger.critical("the engine has been at one step for %g s; its stacks:", limit)
            faulthandler.dump_traceback()
            engine.give_up()
            return
