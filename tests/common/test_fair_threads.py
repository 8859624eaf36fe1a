"""Work of callers in threads, in turn."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator

import pytest

from rapport.common.fair_threads import TURN_S, FairThreads, Steps, finish


@pytest.fixture
async def threads() -> AsyncIterator[FairThreads]:
    threads = FairThreads(1, "test")
    yield threads
    threads.close()


async def _begun(done: list[str]) -> None:
    """Waits for the first turn."""
    while not done:  # noqa: ASYNC110 - it is noted by a thread
        await asyncio.sleep(0)


def _long(done: list[str], name: str, turns: int) -> Steps[str]:
    """Work of at least so many turns, each of which it notes."""
    for _ in range(turns):
        end = time.monotonic() + TURN_S
        while time.monotonic() < end:
            yield False
        done.append(name)
    return name


async def test_work_in_steps_lets_others_in_between(threads: FairThreads) -> None:
    """What comes later is done long before, though there is one thread."""
    done: list[str] = []
    long = asyncio.create_task(threads.run_steps("a", _long(done, "a", 50)))
    await _begun(done)
    assert await threads.run("b", lambda: "b") == "b"
    assert not long.done()
    assert len(done) < 50
    assert await long == "a"


async def test_nobody_waits_for_long_steps(threads: FairThreads) -> None:
    """They are done one at a time, while others have the one thread for themselves."""
    may_end, done = threading.Event(), list[str]()

    def long(name: str) -> Steps[str]:
        yield False
        yield True
        done.append(f"{name} begins")
        may_end.wait()
        done.append(f"{name} ends")
        yield False
        return name

    running = [asyncio.create_task(threads.run_steps(name, long(name))) for name in "ab"]
    await _begun(done)
    assert await threads.run_steps("c", _long([], "c", 2)) == "c"
    assert done == ["a begins"]
    may_end.set()
    assert await asyncio.gather(*running) == ["a", "b"]
    assert done == ["a begins", "a ends", "b begins", "b ends"]


async def test_what_many_steps_give_is_returned_or_raised(threads: FairThreads) -> None:
    def failing() -> Steps[None]:
        yield False
        raise ValueError("wrong")

    def nothing() -> Steps[None]:
        yield False

    await threads.run_steps("a", nothing())
    assert finish(_long([], "same", 1)) == "same"
    with pytest.raises(ValueError, match="wrong"):
        await threads.run_steps("a", failing())


async def test_work_that_nobody_waits_for_takes_no_more_turns(threads: FairThreads) -> None:
    done: list[str] = []
    running = asyncio.create_task(threads.run_steps("a", _long(done, "a", 10**9)))
    await _begun(done)
    running.cancel()
    await asyncio.wait((running,))
    await threads.run("b", lambda: None)
    noted = list(done)
    await threads.run("b", lambda: None)
    assert done == noted


async def test_a_thread_is_not_given_away_while_it_works(threads: FairThreads) -> None:
    """Though the one who wanted the work has left. Who leaves the line behind it gets none."""
    began, end = threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        end.wait(60)

    abandoned = asyncio.create_task(threads.run("a", work))
    await asyncio.to_thread(began.wait, 60)
    never: list[str] = []
    waiting = asyncio.create_task(threads.run("a", lambda: never.append("never")))
    await asyncio.sleep(0)
    for task in (abandoned, waiting):
        task.cancel()
    await asyncio.wait((abandoned, waiting))
    after = asyncio.create_task(threads.run("a", lambda: "after"))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not after.done()
    end.set()
    assert await after == "after"
    assert not never
