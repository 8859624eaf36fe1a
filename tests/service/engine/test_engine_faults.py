"""What fails under a step harms those whose step it was, and nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from rapport.service.engine.config import EngineConfig
from rapport.service.engine.engine import Engine
from rapport.service.engine.errors import (
    EngineError,
    EngineUnavailableError,
    InvalidLogitsError,
    OutOfMemoryError,
    StepFailedError,
    failure_of,
)
from rapport.service.engine.request import GenerationRequest, SamplingParams
from rapport.service.engine.runtime.faults import parse_faults
from rapport.service.engine.runtime.faulty_runner import FaultyRunner, inject_text_faults
from tests.service.engine.fake import (
    FakeRunner,
    Gate,
    byte_vocabulary,
    collect,
    expected,
    fake_spec,
    greedy,
    settled,
)

SLOTS = 4
PLAIN = EngineConfig(drafts=False)


@asynccontextmanager
async def faulty(faults: str, runner: FakeRunner | None = None) -> AsyncIterator[Engine]:
    """An engine with faults that must have released all it took by the end."""
    runner, vocabulary = runner or FakeRunner(SLOTS), byte_vocabulary()
    inject_text_faults(vocabulary, parse_faults(faults))
    worn = FaultyRunner(runner, parse_faults(faults))
    engine = Engine(worn, fake_spec(), vocabulary, PLAIN)
    engine.start(lambda: None)
    yield engine
    await settled(engine)
    await engine.stop()
    counters = engine.counters
    assert counters.accepted == counters.finished + counters.cancelled + counters.failed
    assert engine.slot_counters.taken == engine.slot_counters.released
    assert not any(runner.contents[:SLOTS])


async def outcome(engine: Engine, request: GenerationRequest) -> str | type[EngineError]:
    """The text of the first choice, or what became of the request."""
    try:
        return (await collect(engine.submit(request)))[0]
    except EngineError as error:
        return type(error)


class OverflowingRunner(FakeRunner):
    """Computes no numbers for sequences with an "N", once they have eight tokens."""

    def _append(self, slot: int, tokens: Sequence[int], past: int) -> NDArray[np.float32]:
        logits = super()._append(slot, tokens, past)
        if ord("N") in self.contents[slot] and len(self.contents[slot]) >= 8:
            logits[:] = np.nan
        return logits


def text(prompt: str, count: int) -> str:
    return bytes(expected(prompt.encode(), count)).decode()


@pytest.mark.parametrize("point", ["prefill", "decode", "text", "write"])
@pytest.mark.parametrize(
    ("action", "error"), [("raise", StepFailedError), ("oom", OutOfMemoryError)]
)
async def test_one_fault_fails_one_request(
    point: str, action: str, error: type[EngineError]
) -> None:
    """Wherever it strikes a lone request; those that follow are answered in full."""
    request = greedy("the same forty bytes, so that a block is hit", 5)
    async with faulty(f"{point}:{action}@1") as engine:
        outcomes = [await outcome(engine, request) for _ in range(4)]
    assert outcomes.count(error) == 1
    right = text(bytes(request.prompt).decode(), 5)
    assert [each for each in outcomes if each is not error] == [right] * 3


@pytest.mark.parametrize(
    ("action", "error"), [("raise", StepFailedError), ("oom", OutOfMemoryError)]
)
async def test_a_prompt_that_cannot_be_copied_fails_its_request(
    action: str, error: type[EngineError]
) -> None:
    """The choices share one prompt: where it cannot be copied the request fails as a whole."""
    async with faulty(f"copy:{action}@1") as engine:
        assert await outcome(engine, greedy("many", 5, n=3)) is error
        assert await outcome(engine, greedy("more", 5, n=3)) == text("more", 5)


async def test_without_memory_the_latest_makes_room() -> None:
    """A step that finds no memory costs the request that came last; the others go on."""
    runner = FakeRunner(SLOTS)
    gate = Gate(runner, "decode")
    async with faulty("decode:oom@9", runner) as engine:
        tasks = []
        for name in "abc":
            tasks.append(asyncio.create_task(outcome(engine, greedy(name, 20))))
            await asyncio.sleep(0.02)
        assert await asyncio.to_thread(gate.reached.wait, 10)
        gate.opened.set()
        assert await asyncio.gather(*tasks) == [text("a", 20), text("b", 20), OutOfMemoryError]
        assert engine.counters.failed == 1


async def test_without_memory_one_after_the_other_makes_room() -> None:
    """Where there is none at all, each of the requests fails, and the engine lives."""
    async with faulty("decode:oom") as engine:
        requests = [outcome(engine, greedy(name, 20)) for name in "abc"]
        assert await asyncio.gather(*requests) == [OutOfMemoryError] * 3
        assert await outcome(engine, greedy("d", 1)) == text("d", 1)


async def test_a_prefix_that_cannot_be_kept_harms_nobody() -> None:
    async with faulty("read:oom") as engine:
        prompt = "x" * 40
        assert await outcome(engine, greedy(prompt, 5)) == text(prompt, 5)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
async def test_logits_that_overflow_fail_their_own_request(temperature: float) -> None:
    """In a first token and in later ones; the answers beside it are whole."""
    engine = Engine(OverflowingRunner(SLOTS), fake_spec(), byte_vocabulary(), PLAIN)
    engine.start(lambda: None)
    overflows = [greedy("one N", 9), greedy("N and more", 9)]
    sampling = SamplingParams(temperature=temperature)
    overflows = [replace(request, sampling=sampling) for request in overflows]
    requests = [greedy("one", 9), *overflows, greedy("two", 9)]
    outcomes = await asyncio.gather(*(outcome(engine, request) for request in requests))
    assert outcomes == [text("one", 9), *[InvalidLogitsError] * 2, text("two", 9)]
    await engine.stop()
    assert engine.counters.failed == 2


async def test_death_ends_what_runs() -> None:
    """What no step catches ends the thread; requests in line and in slots hear of it."""
    engine = Engine(
        FaultyRunner(FakeRunner(SLOTS), parse_faults("decode:die@3")),
        fake_spec(),
        byte_vocabulary(),
        PLAIN,
    )
    died = asyncio.Event()
    engine.start(died.set)
    requests = [outcome(engine, greedy(f"prompt {number}", 20)) for number in range(2 * SLOTS)]
    assert await asyncio.gather(*requests) == [EngineUnavailableError] * 2 * SLOTS
    await asyncio.wait_for(died.wait(), 5)
    await engine.stop()
    assert engine.counters.accepted == engine.counters.failed == 2 * SLOTS


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), OutOfMemoryError),
        (RuntimeError("... Status Message: std::bad_alloc"), OutOfMemoryError),
        (
            RuntimeError("Failed to allocate memory for requested buffer of size 1"),
            OutOfMemoryError,
        ),
        (RuntimeError("invalid argument"), StepFailedError),
        (OutOfMemoryError(), OutOfMemoryError),
    ],
)
def test_what_an_error_means(error: Exception, kind: type[EngineError]) -> None:
    """ONNX Runtime tells in words alone that there is no memory."""
    assert type(failure_of(error)) is kind
