"""The requests of several prompts, as one generation."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from rapport.service.engine.batch import GenerationBatch
from rapport.service.engine.errors import Bound, EngineUnavailableError, OverloadedError
from rapport.service.engine.generation import Generation
from rapport.service.engine.request import Delta, GenerationRequest
from tests.service.fakes import ends, says


class Engine:
    """Takes requests while there are `places`, and is told what they generate."""

    def __init__(self, places: int = 9, retry_after: float = 0.01) -> None:
        self.places = places
        self.retry_after = retry_after
        self.generations: list[Generation] = []
        self.cancelled: list[Generation] = []
        self.refused = 0

    def submit(self, request: GenerationRequest) -> Generation:
        if len(self.generations) >= self.places:
            self.refused += 1
            raise OverloadedError("full", Bound.REQUESTS, self.retry_after)
        generation = Generation(request, self.cancelled.append)
        self.generations.append(generation)
        return generation


def batch(engine: Engine, prompts: int, *, n: int = 1, max_running: int = 9) -> GenerationBatch:
    requests = [GenerationRequest((1,) * (place + 1), 10, n=n) for place in range(prompts)]
    return GenerationBatch(requests, engine.submit, max_running)


async def read(running: GenerationBatch) -> list[Delta]:
    return [delta async for delta in running]


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_choices_are_numbered_on() -> None:
    """The choices of the second prompt come after those of the first."""
    engine = Engine()
    async with batch(engine, 2, n=2) as running:
        reading = asyncio.create_task(read(running))
        await turns()
        for generation in engine.generations:
            for index in range(2):
                generation.add(ends(index, f"{len(generation.request.prompt)}{index}"))
        texts = {delta.index: delta.text for delta in await reading}
    assert texts == {0: "10", 1: "11", 2: "20", 3: "21"}
    assert engine.cancelled == []
    assert (running.prompt_tokens, running.completion_tokens) == (1 + 2, 4)
    assert running.first_token_at is not None


async def test_some_run_at_a_time() -> None:
    """The next prompt is submitted when one of those that run has ended."""
    engine = Engine()
    async with batch(engine, 3, max_running=2) as running:
        reading = asyncio.create_task(read(running))
        for submitted in (2, 3):
            await turns()
            assert len(engine.generations) == submitted
            engine.generations[submitted - 2].add(ends(0))
        engine.generations[2].add(ends(0))
        assert sorted(delta.index for delta in await reading) == [0, 1, 2]


async def test_the_first_is_refused_as_any_request() -> None:
    """A request for which there is no room at all is told so at once."""
    with pytest.raises(OverloadedError):
        async with batch(Engine(places=0), 2):
            pass


async def test_the_others_wait_for_room() -> None:
    """A prompt for which there is no room later does not fail the request."""
    engine = Engine(places=1)
    async with batch(engine, 2) as running:
        reading = asyncio.create_task(read(running))
        await turns()
        assert engine.refused == 1
        engine.generations[0].add(says(0, "a"))
        engine.generations[0].add(ends(0))
        engine.places = 2
        async with asyncio.timeout(5):
            while len(engine.generations) < 2:  # noqa: ASYNC110 - polls a fake
                await asyncio.sleep(0.001)
        engine.generations[1].add(ends(0, "b"))
        assert "".join(delta.text for delta in await reading) == "ab"


async def test_room_is_looked_for_though_the_time_has_come() -> None:
    """A prompt is tried again where its time came before the wait for it began."""
    engine = Engine(places=1, retry_after=1e-9)
    async with batch(engine, 2) as running:
        reading = asyncio.create_task(read(running))
        engine.generations[0].add(ends(0, "a"))
        await turns()
        engine.places = 2
        async with asyncio.timeout(5):
            while len(engine.generations) < 2:  # noqa: ASYNC110 - polls a fake
                await asyncio.sleep(0.001)
        engine.generations[1].add(ends(0, "b"))
        assert "".join(delta.text for delta in await reading) == "ab"


async def test_leaving_cancels_all() -> None:
    """Whoever leaves stops what runs, and nothing more is submitted."""
    engine = Engine()
    with suppress(asyncio.CancelledError):
        async with batch(engine, 3, max_running=2) as running:
            reading = asyncio.create_task(read(running))
            await turns()
            reading.cancel()
            await reading
    assert engine.cancelled == engine.generations
    assert len(engine.generations) == 2


async def test_a_failure_ends_all() -> None:
    """What fails one prompt fails the request, and stops the others."""
    engine = Engine()
    async with batch(engine, 2) as running:
        reading = asyncio.create_task(read(running))
        await turns()
        engine.generations[1].fail(EngineUnavailableError("the engine has died"))
        with pytest.raises(EngineUnavailableError):
            await reading
    assert engine.cancelled == [engine.generations[0]]
