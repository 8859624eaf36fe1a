"""Threads for what would hold up the event loop, which callers use in turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from rapport.common.fair_semaphore import FairSemaphore

# How long work in steps goes on while others may wait.
TURN_S = 0.01

T = TypeVar("T")

Steps = Generator[bool, None, T]
"""Work in steps: it yields wherever the work of others may come first, and returns a value.

What it yields says whether its next step takes long.
"""


class FairThreads:
    """Runs the work of callers in `size` threads, of each caller in one. For one event loop alone.

    Work in steps takes a turn of about `TURN_S`, then lets the work of others go first. Other work
    is a single turn. Long steps are done one at a time in a thread of their own, so that nobody
    waits for them but who has some, too.
    """

    def __init__(self, size: int, name: str) -> None:
        self._threads = _Threads(size, name)
        self._long = _Threads(1, f"long {name}")

    async def run(self, caller: str, work: Callable[[], T], max_wait_s: float | None = None) -> T:
        """The value of `work`. If the caller leaves first, what has not begun is dropped.

        Raises:
            TimeoutError: the caller's turn did not come within `max_wait_s`.
        """
        return await self._threads.run(caller, work, max_wait_s)

    async def run_steps(self, caller: str, steps: Steps[T]) -> T:
        """The value of work in steps. If the caller leaves first, it takes no more turns."""
        threads = self._threads
        while True:
            values, is_long = await threads.run(caller, partial(_take_turn, steps))
            if values:
                return values[0]
            threads = self._long if is_long else self._threads

    def close(self) -> None:
        """Drops the work that has not begun. What has begun ends its turn."""
        self._threads.close()
        self._long.close()


class _Threads:
    """Threads that callers use in turn."""

    def __init__(self, size: int, name: str) -> None:
        self._turns = FairSemaphore(size)
        self._threads = ThreadPoolExecutor(size, thread_name_prefix=name)

    async def run(self, caller: str, work: Callable[[], T], max_wait_s: float | None = None) -> T:
        """As `FairThreads.run`."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(max_wait_s):
            await self._turns.acquire(caller)
        turn = self._threads.submit(work)
        # Not before the thread is free again, even if nobody waits for the value any more.
        turn.add_done_callback(partial(self._end_turn, loop, caller))
        return await asyncio.wrap_future(turn)

    def close(self) -> None:
        """As `FairThreads.close`."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _end_turn(self, loop: asyncio.AbstractEventLoop, caller: str, _turn: Future[T]) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._turns.release, caller)


def finish(steps: Steps[T]) -> T:
    """The value of work in steps, done at once in this thread."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            value: T = end.value
            return value


def _take_turn(steps: Steps[T]) -> tuple[list[T], bool]:
    """Goes on with the work for a turn, or up to a long step.

    Returns its value in a list, which is empty before, and whether the next step is a long one.
    """
    end = time.monotonic() + TURN_S
    while time.monotonic() < end:
        try:
            if next(steps):
                return [], True
        except StopIteration as done:
            return [done.value], False
    return [], False
