"""What one user feels of another who asks for far more.

python -m bench.fairness --asks 40 --json fairness.json

A light user asks now and then, alone and beside a greedy one who keeps 50 requests under
way, in turns. Prints the light one's time to the first token, and how many times as long it
is beside the other.
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
from bench.progress import tell
from bench.server import end_on_sigterm, rapport
from bench.workload import Workload
from rapport.models.cache.catalog import DEFAULT_MODEL

GREED = 50
ROUNDS = 3
REQUEST_LIMIT = 600.0
# Seconds that the greedy one gets to fill slots and line, and that the light one pauses.
RAMP = 8.0
PAUSE = (0.2, 1.5)


@dataclass(frozen=True, slots=True)
class Figures:
    """Seconds to the first token of the light user's requests."""

    alone: Percentiles
    beside: Percentiles
    greedy_tokens: float
    """Tokens per second that the greedy user gets beside the light one."""

    @property
    def ratio(self) -> float:
        """Of the 95th percentiles."""
        return self.beside.p95 / self.alone.p95


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures on a server of its own; 0 when the ratio is at most 2."""
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
    return figures.ratio > 2  # noqa: PLR2004 - the promise


async def measure(asks: int, prompt_tokens: int) -> Figures:
    """Both kinds in turns, on one server."""
    light = Workload(DEFAULT_MODEL, prompt_tokens, 8, 0.0, seed=1)
    alone, beside, greedy = list[Record](), list[Record](), list[Record]()
    with rapport() as (_, target):
        client = RestClient(str(target.rest))
        numbers = count()
        share = -(-asks // ROUNDS)
        await ask(client, light, numbers, 3)
        for turn in range(ROUNDS):
            tell(f"round {turn + 1} of {ROUNDS}")
            alone += await ask(client, light, numbers, share)
            async with greed(client, greedy, turn):
                await asyncio.sleep(RAMP)
                beside += await ask(client, light, numbers, share)
        await client.close()
    return figures_of(alone, beside, greedy)


async def ask(
    client: RestClient, workload: Workload, numbers: count[int], asks: int
) -> list[Record]:
    """One request after the other, with pauses."""
    random, records = Random(asks), []  # noqa: S311 - pauses, no secret
    for _ in range(asks):
        await asyncio.sleep(random.uniform(*PAUSE))
        request = replace(workload.request(next(numbers)), name="light")
        records.append(await attempt(client, request, REQUEST_LIMIT))
    return records


@asynccontextmanager
async def greed(client: RestClient, records: list[Record], turn: int) -> AsyncIterator[None]:
    """Keeps requests of the greedy user under way."""
    workload = Workload(DEFAULT_MODEL, 128, 128, 0.0, seed=100 + turn)
    numbers = count()

    async def insist() -> None:
        while True:
            request = replace(workload.request(next(numbers)), name="greedy")
            records.append(await attempt(client, request, REQUEST_LIMIT))

    callers = [asyncio.create_task(insist()) for _ in range(GREED)]
    try:
        yield
    finally:
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)


def figures_of(
    alone: Sequence[Record], beside: Sequence[Record], greedy: Sequence[Record]
) -> Figures:
    """Raises BenchError if a request of the light user failed."""
    failed = {record.error for record in (*alone, *beside) if record.error}
    before, after = (Percentiles.of([each.ttft for each in part]) for part in (alone, beside))
    if failed or before is None or after is None:
        raise BenchError(f"requests of the light user failed: {failed}")
    tokens = sum(record.completion_tokens for record in greedy)
    seconds = sum(record.ended - record.started for record in beside)
    return Figures(before, after, tokens / seconds)


if __name__ == "__main__":
    sys.exit(main())
