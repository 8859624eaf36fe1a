from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapport.service.engine.config import EngineConfig
from rapport.service.engine.engine import Engine
from rapport.service.engine.errors import EngineError
from rapport.service.engine.stats import ROW_BOUNDS, Histogram
from tests.service.engine.fake import (
    FakeRunner,
    Gate,
    byte_vocabulary,
    collect,
    expected,
    fake_spec,
    greedy,
)

VOCABULARY = byte_vocabulary()
PROMPT = "a prompt of 24 letters .."


def made(runner: FakeRunner, **options: object) -> Engine:
    config = EngineConfig(**({"drafts": False} | options))  # type: ignore[arg-type]
    engine = Engine(runner, fake_spec(), VOCABULARY, config)
    engine.start(lambda: None)
    return engine


@given(st.lists(st.floats(0, 200) | st.sampled_from([float(bound) for bound in ROW_BOUNDS])))
def test_tally(values: list[float]) -> None:
    """A value counts in the bucket of the first bound that is not below it."""
    tally = Histogram(ROW_BOUNDS)
    for value in values:
        tally.add(value)
    lower = [float("-inf"), *ROW_BOUNDS]
    upper = [*ROW_BOUNDS, float("inf")]
    ranges = zip(lower, upper, strict=True)
    assert tally.counts == [sum(low < value <= high for value in values) for low, high in ranges]
    assert tally.sum == pytest.approx(sum(values))


def test_time_since() -> None:
    """Seconds since a time are added, and returned."""
    tally = Histogram((0.5, 100))
    assert 10 <= tally.since(time.perf_counter() - 10) == tally.sum
    assert tally.counts == [0, 1, 0]


async def test_tokens_and_steps() -> None:
    """Of several choices the prompt counts once; every token but their first has its decode row."""
    engine = made(FakeRunner())
    await collect(engine.submit(greedy(PROMPT, 10, n=3)))
    stats = engine.stats
    assert (stats.prompt_tokens, stats.completion_tokens) == (len(PROMPT), 30)
    assert stats.rows.sum == 27
    assert sum(stats.decode.counts) == sum(stats.rows.counts)
    assert sum(stats.prefill.counts) == 1
    assert stats.failed_steps == sum(stats.mask.counts) == 0
    await engine.stop()


async def test_prefixes() -> None:
    """A prompt that comes again is a hit, and its tokens count as cached."""
    engine = made(FakeRunner())
    await collect(engine.submit(greedy(PROMPT, 2)))
    generation = engine.submit(greedy(PROMPT, 2))
    await collect(generation)
    kept = engine.prefix_stats
    assert (kept.hits, kept.misses) == (1, 1)
    assert engine.stats.cached_tokens == generation.cached_tokens > 0
    assert kept.bytes > 0 < kept.blocks
    await engine.stop()


async def test_evictions() -> None:
    """Blocks that make room are counted, and those left stay within the budget."""
    engine = made(FakeRunner(), prefix_bytes=300)
    for letter in "abcd":
        await collect(engine.submit(greedy(letter * 40, 2)))
    kept = engine.prefix_stats
    assert kept.evictions > 0
    assert kept.bytes <= kept.budget_bytes == 300
    await engine.stop()


async def test_nothing_is_kept() -> None:
    """Without a store there are neither hits nor misses."""
    engine = made(FakeRunner(), prefix_bytes=0)
    await collect(engine.submit(greedy(PROMPT, 2)))
    assert engine.prefix_stats.hits == engine.prefix_stats.misses == 0
    await engine.stop()


async def test_drafts() -> None:
    """Tokens guessed at and guessed right are those of the answers."""
    engine = made(FakeRunner(), drafts=True)
    right = expected(PROMPT.encode(), 20)
    generation = engine.submit(greedy(PROMPT, 20, prediction=(*right[:9], 0, *right[10:])))
    await collect(generation)
    guessed = engine.stats.guessed
    assert (guessed.drafted, guessed.accepted) == (
        generation.drafted_tokens,
        generation.accepted_tokens,
    )
    assert guessed.drafted > guessed.accepted > 0 == engine.stats.forced.drafted
    assert sum(engine.stats.verify.counts) > 0
    await engine.stop()


async def test_failed_steps() -> None:
    """A step that the runtime fails in counts."""
    runner = FakeRunner()

    def fail(kind: str) -> None:
        if kind == "decode":
            raise RuntimeError

    runner.before = fail
    engine = made(runner)
    with pytest.raises(EngineError):
        await collect(engine.submit(greedy(PROMPT, 3)))
    assert engine.stats.failed_steps == 1
    await engine.stop()


async def test_occupancy() -> None:
    """What runs and what waits is reported while it does, and is gone afterwards."""
    runner = FakeRunner(slots=1)
    engine = made(runner)
    gate = Gate(runner, "decode", after=2)
    first, second = engine.submit(greedy(PROMPT, 9)), engine.submit(greedy("ab", 3))
    assert await asyncio.to_thread(gate.reached.wait, 20)
    while not first.started:  # noqa: ASYNC110 - the news is under way
        await asyncio.sleep(0)
    now = engine.occupancy()
    assert (now.slots, now.slots_used, now.waiting_requests, now.waiting_tokens) == (1, 1, 1, 2)
    assert now.kv_tokens == len(PROMPT) + 2
    assert now.kv_reserved_tokens == len(PROMPT) + 9
    assert now.kv_bytes == now.kv_tokens * 8
    gate.opened.set()
    await collect(first)
    await collect(second)
    await engine.stop()
    now = engine.occupancy()
    assert (now.slots_used, now.waiting_requests, now.kv_tokens, now.kv_reserved_tokens) == (0,) * 4
