"""The cost of the engine's statistics: CPU time per token with and without, in turns.

`python -m bench.metrics_cost`; one thread, so that no core waits for another.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from contextlib import AbstractContextManager, nullcontext
from timeit import repeat
from typing import Any
from unittest.mock import patch

from rapport.models.importer import ensure
from rapport.models.onnx.precision import cpu_precision
from rapport.service.engine.config import EngineConfig
from rapport.service.engine.engine import Engine
from rapport.service.engine.request import GenerationRequest, SamplingParams
from rapport.service.engine.runtime.providers import CPU
from rapport.service.engine.stats import EngineStats, Histogram

MODEL = "smollm2-135m-instruct"
PROMPT = tuple(range(100, 140))
CALLS = 100_000


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.metrics_cost", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="of each of the two")
    parser.add_argument("--tokens", type=int, default=100, help="in an answer")
    options = parser.parse_args()
    counted, plain = asyncio.run(measure(options.rounds, options.tokens))
    print(f"CPU time per token: {counted * 1e6:.1f} µs with, {plain * 1e6:.1f} µs without", end="")
    print(f" (medians of {options.rounds} rounds, in turns); ratio {counted / plain:.4f}")
    print(f"what a decode step counts: {step_cost() * 1e6:.2f} µs")


async def measure(rounds: int, tokens: int) -> tuple[float, float]:
    """Medians of the seconds of CPU time per token, with statistics and without."""
    config = EngineConfig(slots=1, threads=1, drafts=False)
    engine = await asyncio.to_thread(Engine.load, ensure(MODEL, cpu_precision()), CPU, config)
    engine.start(lambda: None)
    await answer(engine, tokens)
    spent: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(2 * rounds):
        # In pairs of changing order, so that neither always comes first.
        counting = turn % 4 in (0, 3)
        with nullcontext() if counting else blind():
            began = time.process_time()
            await answer(engine, tokens)
            spent[counting].append((time.process_time() - began) / tokens)
    await engine.stop()
    return statistics.median(spent[True]), statistics.median(spent[False])


def blind() -> AbstractContextManager[Any]:
    """Statistics that count nothing. Times for the latency model are still taken."""
    return patch.multiple(
        Histogram,
        add=lambda _self, _value: None,
        since=lambda _self, started: time.perf_counter() - started,
    )


async def answer(engine: Engine, tokens: int) -> None:
    request = GenerationRequest(
        PROMPT, tokens, sampling=SamplingParams(temperature=0), ignore_eos=True
    )
    async with engine.submit(request) as generation:
        async for _ in generation:
            pass


def step_cost() -> float:
    """The seconds that counting takes in a decode step of one row, at best."""
    stats = EngineStats()

    def step() -> None:
        stats.decode.since(0)
        stats.rows.add(1)
        stats.completion_tokens += 1

    return min(repeat(step, number=CALLS, repeat=5)) / CALLS


if __name__ == "__main__":
    main()
