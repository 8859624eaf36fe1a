"""The engine on a small model; on the real one with `make fidelity`, or where it must be that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rapport.service.engine.config import EngineConfig
from rapport.service.engine.engine import Engine
from rapport.service.engine.request import GenerationRequest, SamplingParams
from rapport.service.engine.runtime.providers import CPU
from tests.service.engine.fake import collect, settled

QUESTIONS = [
    "What is the capital of France?",
    "Name three colours.",
    "Write a haiku about the sea.",
    "What is 12 times 12?",
    "Who wrote Hamlet?",
    "Explain gravity to a child.",
    "Translate 'good morning' into Spanish.",
    "Write one line of Python.",
]


def folders(*real: str) -> pytest.MarkDecorator:
    """Runs a test with a small model, and with real ones by `make fidelity`."""
    marked = [pytest.param(name, marks=pytest.mark.fidelity) for name in real]
    return pytest.mark.parametrize("folder", ["small_folder", *marked], indirect=True)


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path


@pytest.fixture
async def engine(folder: Path) -> AsyncIterator[Engine]:
    async with running(folder) as engine:
        yield engine


@asynccontextmanager
async def running(folder: Path, config: EngineConfig | None = None) -> AsyncIterator[Engine]:
    engine = await asyncio.to_thread(Engine.load, folder, CPU, config or EngineConfig())
    engine.start(lambda: None)
    yield engine
    await settled(engine)
    await engine.stop()
    assert engine.slot_counters.taken == engine.slot_counters.released


def ask(
    engine: Engine, question: str, max_tokens: int, n: int = 1, **sampling: Any
) -> GenerationRequest:
    text = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    prompt = tuple(engine.vocabulary.encode(text))
    return GenerationRequest(prompt, max_tokens, n, SamplingParams(**sampling))  # type: ignore[arg-type] - seed is an int


@folders("float32_folder")
async def test_eight_at_once_say_what_each_says_alone(folder: Path) -> None:
    """Greedy requests give the same text alone and together, each its own.

    In float32: some kernels for one row of quantised weights round otherwise than for several.
    """
    async with running(folder) as engine:
        requests = [ask(engine, question, 16, temperature=0) for question in QUESTIONS]
        alone = [await collect(engine.submit(request)) for request in requests]
        together = await asyncio.gather(*(collect(engine.submit(request)) for request in requests))
    assert together == alone
    assert len({texts[0] for texts in alone}) == len(QUESTIONS)


@folders("cpu_folder")
async def test_a_seed_repeats_the_text(engine: Engine) -> None:
    """The same seed gives the same choices again, each different; no seed gives others."""
    request = ask(engine, "Tell me a story.", 24, n=3, temperature=1.2, seed=11)
    first, second = [await collect(engine.submit(request)) for _ in range(2)]
    assert first == second
    assert len(set(first.values())) == 3
    unseeded = ask(engine, "Tell me a story.", 24, temperature=1.2)
    assert await collect(engine.submit(unseeded)) != await collect(engine.submit(unseeded))


async def test_a_long_prompt_does_not_stall_a_running_stream(cpu_folder: Path) -> None:
    """While a prompt of hundreds of tokens is computed, a stream keeps its pace."""
    async with (
        running(cpu_folder) as engine,
        engine.submit(ask(engine, "Count.", 4000, temperature=0)) as stream,
    ):
        deltas = aiter(stream)
        for _ in range(5):
            await anext(deltas)
        long = asyncio.create_task(collect(engine.submit(ask(engine, "word " * 800, 1))))
        gaps = []
        while not long.done():
            began = time.monotonic()
            await anext(deltas)
            gaps.append(time.monotonic() - began)
    # Computed in one piece, the prompt would hold the stream up for all of this time.
    assert len(gaps) > 10
    assert sorted(gaps)[len(gaps) * 9 // 10] < sum(gaps) / 8
    await long


@folders("cpu_folder", "int8_cache_folder")
async def test_a_known_beginning_is_not_computed_again(engine: Engine) -> None:
    """A prompt that begins as an earlier one did takes that part over, and says the same."""
    stem = "You are a patient teacher who answers in one short sentence. " * 12
    first, second = (ask(engine, stem + question, 12, temperature=0) for question in QUESTIONS[:2])
    fresh = await cached_and_text(engine, replace(second, namespace="apart"))
    await cached_and_text(engine, first)
    reused = await cached_and_text(engine, second)
    assert fresh[0] == 0
    assert reused[0] > len(second.prompt) * 0.8
    assert fresh[1] == reused[1]


async def test_int8_keys_and_values_hold_four_times_the_context(int8_cache_folder: Path) -> None:
    """In a budget that float32 would fill with 100 tokens, 400 fit, and the answer is right."""
    config = EngineConfig(slots=2, kv_budget_bytes=100 * 46_080, prefix_bytes=0)
    async with running(int8_cache_folder, config) as engine:
        assert engine.context_length == 400
        texts = await collect(engine.submit(ask(engine, QUESTIONS[0], 8, temperature=0)))
    assert texts == {0: "The capital of France is Paris."}


@folders("cpu_folder")
async def test_the_next_turn_finds_the_last_answer(engine: Engine) -> None:
    """What was generated is part of the beginning that the next turn takes over."""
    request = ask(engine, "Tell me about the sea.", 80, temperature=0)
    async with engine.submit(request) as generation:
        output = [token async for delta in generation for token in delta.token_ids]
    turn = engine.vocabulary.encode("<|im_end|>\n<|im_start|>user\nMore.<|im_end|>\n")
    following = replace(request, prompt=(*request.prompt, *output, *turn))
    cached, _ = await cached_and_text(engine, following)
    assert cached > len(request.prompt) + len(output) - 40


async def cached_and_text(engine: Engine, request: GenerationRequest) -> tuple[int, str]:
    generation = engine.submit(request)
    texts = await collect(generation)
    return generation.cached_tokens, texts[0]
