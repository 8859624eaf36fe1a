"""Callers take turns, and none waits for all that another wants."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapport.common.fair_semaphore import FairSemaphore


async def _settle() -> None:
    """Lets every task run as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


class _Turns:
    """Tasks that take a turn each, and hold it until they are let go."""

    def __init__(self, semaphore: FairSemaphore) -> None:
        self._semaphore = semaphore
        self.order: list[str] = []
        self._leave: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, *names: str) -> None:
        """Each name is a caller and a number, such as `a1`."""
        for name in names:
            self._leave[name] = asyncio.Event()
            self.tasks[name] = asyncio.create_task(self._hold(name))
        await _settle()

    async def go(self, name: str) -> None:
        self._leave[name].set()
        await _settle()

    async def finish(self) -> list[str]:
        for event in self._leave.values():
            event.set()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        return self.order

    async def _hold(self, name: str) -> None:
        async with self._semaphore.turn(name[0]):
            self.order.append(name)
            await self._leave[name].wait()


async def test_callers_take_turns() -> None:
    """One that comes after many of another's is next but one; each caller's are in their order."""
    turns = _Turns(FairSemaphore(1))
    await turns.come("a1", "a2", "a3", "b1", "c1", "b2")
    assert await turns.finish() == ["a1", "a2", "b1", "c1", "a3", "b2"]


async def test_one_caller_leaves_room_for_another() -> None:
    turns = _Turns(FairSemaphore(2))
    await turns.come("a1", "a2", "a3", "b1")
    assert turns.order == ["a1", "b1"]
    await turns.go("b1")
    assert turns.order == ["a1", "b1"], "a has its one place already"
    await turns.go("a1")
    assert turns.order == ["a1", "b1", "a2"]
    await turns.finish()


async def test_a_caller_may_hold_several_where_it_is_allowed() -> None:
    turns = _Turns(FairSemaphore(3, per_caller=2))
    await turns.come("a1", "a2", "a3", "b1")
    assert turns.order == ["a1", "a2", "b1"]
    await turns.finish()


async def test_who_leaves_the_line_takes_no_turn() -> None:
    semaphore = FairSemaphore(1)
    turns = _Turns(semaphore)
    await turns.come("a1", "b1", "c1")
    assert len(semaphore) == 2
    turns.tasks["b1"].cancel()
    await _settle()
    assert len(semaphore) == 1
    await turns.go("a1")
    assert turns.order == ["a1", "c1"]
    await turns.finish()


@pytest.mark.parametrize("cancelled_first", [True, False])
async def test_a_turn_given_to_one_who_leaves_is_passed_on(*, cancelled_first: bool) -> None:
    """Whether it leaves just before or just after its turn came, in the same round of the loop."""
    semaphore = FairSemaphore(1)
    turns = _Turns(semaphore)
    await semaphore.acquire("a")
    await turns.come("b1", "c1")
    if cancelled_first:
        turns.tasks["b1"].cancel()
        semaphore.release("a")
    else:
        semaphore.release("a")
        turns.tasks["b1"].cancel()
    await _settle()
    assert turns.order == ["c1"]
    await turns.finish()
    assert len(semaphore) == 0


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=30),
    st.integers(1, 3),
    st.integers(1, 2),
)
def test_all_who_stay_get_a_turn(
    comers: list[tuple[str, bool]], size: int, per_caller: int
) -> None:
    """Whoever leaves meanwhile; never more at once than may be, and in the end all is free."""

    async def scenario() -> None:
        semaphore = FairSemaphore(size, per_caller)
        holders: list[str] = []

        async def hold(caller: str) -> None:
            async with semaphore.turn(caller):
                holders.append(caller)
                try:
                    assert len(holders) <= size
                    assert holders.count(caller) <= per_caller
                    await asyncio.sleep(0)
                finally:
                    holders.remove(caller)

        tasks = [asyncio.create_task(hold(caller)) for caller, _ in comers]
        await asyncio.sleep(0)
        for task, (_, leaves) in zip(tasks, comers, strict=True):
            if leaves:
                task.cancel()
                await asyncio.sleep(0)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert not [each for each in results if isinstance(each, AssertionError)]
        stayed = [result for result, (_, leaves) in zip(results, comers, strict=True) if not leaves]
        assert stayed == [None] * len(stayed)
        assert len(semaphore) == 0
        for number in range(size):
            await asyncio.wait_for(semaphore.acquire(str(number)), 5)

    asyncio.run(scenario())
