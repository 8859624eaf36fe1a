"""A hung engine is told from one that is slow, idle or in a paused process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from rapport.service.engine import watchdog
from rapport.service.engine.config import EngineConfig
from rapport.service.engine.engine import Engine
from rapport.service.engine.errors import EngineUnavailableError
from rapport.service.engine.watchdog import death_of
from tests.service.engine.fake import FakeRunner, Gate, byte_vocabulary, collect, fake_spec, greedy

Steps = Callable[[int], float | None]


class Stepping:
    """An engine at the step that a function of the number of looks says."""

    def __init__(self, step: Steps) -> None:
        self._step = step
        self.looks = 0
        self.given_up = False

    @property
    def step_started_at(self) -> float | None:
        self.looks += 1
        return self._step(self.looks)

    def give_up(self) -> None:
        self.given_up = True


async def watched(engine: Any, seconds: float) -> bool:
    """Whether the engine is taken for dead meanwhile."""
    try:
        await asyncio.wait_for(death_of(engine, asyncio.Event(), 0.1), seconds)
    except TimeoutError:
        return False
    return True


async def test_a_hung_engine_fails_its_requests(capfd: pytest.CaptureFixture[str]) -> None:
    """At one step for too long, its requests fail, it takes no more, and its stacks are shown."""
    runner = FakeRunner()
    gate = Gate(runner, "decode")
    engine = Engine(runner, fake_spec(), byte_vocabulary(), EngineConfig())
    died = asyncio.Event()
    engine.start(died.set)
    asked = asyncio.create_task(collect(engine.submit(greedy("hang", 9))))
    assert await asyncio.to_thread(gate.reached.wait, 10)
    await asyncio.wait_for(death_of(engine, died, 0.3), 10)
    with pytest.raises(EngineUnavailableError, match="died"):
        await asked
    with pytest.raises(EngineUnavailableError, match="died"):
        engine.submit(greedy("more", 9))
    assert "service/engine/worker.py" in capfd.readouterr().err
    counters = engine.counters
    assert (counters.accepted, counters.failed) == (1, 1)
    # What it says should it come back to life changes nothing.
    gate.opened.set()
    await engine.stop()
    assert (counters.accepted, counters.failed, counters.finished) == (1, 1, 0)


@pytest.mark.parametrize(
    ("step", "dead"),
    [
        (lambda _: None, False),  # idle
        (lambda look: look // 4, False),  # a new step within the limit
        (lambda look: None if look % 3 == 0 else 7, False),  # idle between looks
        (lambda _: 7, True),
    ],
)
async def test_only_one_step_for_the_whole_limit_is_a_hang(step: Steps, *, dead: bool) -> None:
    """Steps that come to an end, and none at all, are no hang."""
    engine = Stepping(step)
    assert await watched(engine, 0.5) is dead
    assert engine.given_up is dead


async def test_a_paused_process_does_not_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was stopped for longer than the limit in the midst of a step is let go on."""
    pauses = iter([True])
    wait_for = asyncio.wait_for

    async def paused(*arguments: Any) -> Any:
        if next(pauses, False):
            time.sleep(0.2)  # noqa: ASYNC251 - the whole process stands still
        return await wait_for(*arguments)

    monkeypatch.setattr(watchdog.asyncio, "wait_for", paused)
    engine = Stepping(lambda look: 7 if look < 8 else None)
    died = asyncio.Event()
    watching = asyncio.create_task(death_of(engine, died, 0.1))  # type: ignore[arg-type]
    await asyncio.sleep(0.4)
    assert not watching.done()
    died.set()
    await watching
    assert not engine.given_up


async def test_without_a_limit_death_is_waited_for() -> None:
    """With the limit off, a step may take for ever; a death is reported all the same."""
    engine, died = Stepping(lambda _: 7), asyncio.Event()
    watching = asyncio.create_task(death_of(engine, died, 0))  # type: ignore[arg-type]
    await asyncio.sleep(0.2)
    assert not watching.done()
    died.set()
    await asyncio.wait_for(watching, 5)
    assert not engine.given_up
