"""How much one user's latency suffers from another user who sends far more.

python -m bench.fairness --asks 40 --json fairness.json

A light user sends a request now and then: in turns alone and beside a heavy user who keeps 50
requests in flight. Prints the light user's time to the first token, and the ratio of both.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from random import Random

import orjson
import uvloop

from bench.clients import RestClient
from bench.errors import BenchError
from bench.load import attempt
from bench.measure import Percentiles, Record
from bench.options import bounded
from bench.progress import show_progress
from bench.server import end_on_sigterm, rapport
from bench.workload import Workload
from rapport.models.cache.catalog import DEFAULT_MODEL

HEAVY_REQUESTS = 50
ROUNDS = 3
REQUEST_TIMEOUT_S = 600.0
# How long the heavy user fills slots and queue before the light user begins.
RAMP_S = 8.0
# The range of the light user's pauses.
PAUSE_S = (0.2, 1.5)


@dataclass(frozen=True, slots=True)
class Figures:
    """Seconds to the first token of the light user's requests."""

    alone: Percentiles
    beside: Percentiles
    greedy_tokens: float
    """Tokens per second of the heavy user beside the light one."""

    @property
    def ratio(self) -> float:
        """The ratio of the 95th percentiles."""
        return self.beside.p95 / self.alone.p95


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures on a server that it starts. Returns 0 if the ratio is at most 2."""
    parser = argparse.ArgumentParser("bench.fairness", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--asks", type=bounded(int, 3, 10_000), default=40, help="of each kind (%(default)s)")
    add("--prompt-tokens", type=bounded(int, 24, 4096), default=100, help="(%(default)s)")
    add("--json", type=Path, help="write all figures there")
    given = parser.parse_args(arguments)
    end_on_sigterm()
    figures = uvloop.run(measure(given.asks, given.prompt_tokens))
    for name, seen in (("alone", figures.alone), ("beside", figures.beside)):
        print(f"TTFT {name:6}  p50 {seen.p50 * 1e3:6.0f} ms  p95 {seen.p95 * 1e3:6.0f} ms")
    print(f"p95 beside the other is {figures.ratio:.2f} times that alone")
    if given.json:
        written = {**asdict(figures), "ratio": figures.ratio}
        given.json.write_bytes(orjson.dumps(written, option=orjson.OPT_INDENT_2))
    return figures.ratio > 2  # noqa: PLR2004 - the goal


async def measure(asks: int, prompt_tokens: int) -> Figures:
    """Measures alone and beside the heavy user in turns, on one server."""
    light = Workload(DEFAULT_MODEL, prompt_tokens, 8, 0.0, seed=1)
    alone, beside, heavy = list[Record](), list[Record](), list[Record]()
    with rapport() as (_, target):
        client = RestClient(str(target.rest))
        numbers = count()
        share = -(-asks // ROUNDS)
        await ask(client, light, numbers, 3)
        for turn in range(ROUNDS):
            show_progress(f"round {turn + 1} of {ROUNDS}")
            alone += await ask(client, light, numbers, share)
            async with heavy_load(client, heavy, turn):
                await asyncio.sleep(RAMP_S)
                beside += await ask(client, light, numbers, share)
        await client.close()
    return figures_of(alone, beside, heavy)


async def ask(
    client: RestClient, workload: Workload, numbers: count[int], asks: int
) -> list[Record]:
    """Sends one request after the other, with pauses."""
    random, records = Random(asks), []  # noqa: S311 - pauses, no secret
    for _ in range(asks):
        await asyncio.sleep(random.uniform(*PAUSE_S))
        request = replace(workload.request(next(numbers)), name="light")
        records.append(await attempt(client, request, REQUEST_TIMEOUT_S))
    return records


@asynccontextmanager
async def heavy_load(client: RestClient, records: list[Record], turn: int) -> AsyncIterator[None]:
    """Keeps requests of the heavy user in flight."""
    workload = Workload(DEFAULT_MODEL, 128, 128, 0.0, seed=100 + turn)
    numbers = count()

    async def send_on() -> None:
        while True:
            request = replace(workload.request(next(numbers)), name="greedy")
            records.append(await attempt(client, request, REQUEST_TIMEOUT_S))

    callers = [asyncio.create_task(send_on()) for _ in range(HEAVY_REQUESTS)]
    try:
        yield
    finally:
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)


def figures_of(
    alone: Sequence[Record], beside: Sequence[Record], heavy: Sequence[Record]
) -> Figures:
    """The figures of the requests.

    Raises:
        BenchError: a request of the light user failed.
    """
    failed = {record.error for record in (*alone, *beside) if record.error}
    before, after = (Percentiles.of([each.ttft for each in part]) for part in (alone, beside))
    if failed or before is None or after is None:
        raise BenchError(f"requests of the light user failed: {failed}")
    tokens = sum(record.completion_tokens for record in heavy)
    seconds = sum(record.ended - record.started for record in beside)
    return Figures(before, after, tokens / seconds)


if __name__ == "__main__":
    sys.exit(main())
