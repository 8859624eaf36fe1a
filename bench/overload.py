"""Latency and goodput of a server that gets more requests than it can serve.

python -m bench.overload --seconds 60 --json overload.json

Measures over REST how many requests a second the server can answer, then sends once, twice
and ten times as many, at random times and whether or not it keeps up. Those that are let in
must keep their latency, those that are refused must be told so at once, and what is done in
all must not fall.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

import orjson
import uvloop
from rich.table import Table

from bench.load import Closed, Open
from bench.measure import Percentiles, Record
from bench.options import bounded
from bench.progress import show_progress
from bench.scenario import Limits, Session
from bench.server import end_on_sigterm, rapport
from bench.table import console
from bench.workload import Workload
from rapport.models.cache.catalog import DEFAULT_MODEL

FACTORS = (1, 2, 10)
# Clients that keep all slots busy, and the requests of each.
CLIENTS = 16
ROUNDS = 4
WARM_UP = 4
REFUSED = "HTTP 429"
# The part of a load that fills the queue, which is not measured.
RAMP = 0.25


@dataclass(frozen=True, slots=True)
class Figures:
    """One load. Times in seconds, rates per second; latencies are those of accepted requests."""

    factor: float
    offered: float
    accepted: int
    refused: int
    failed: dict[str, int]
    ttft: Percentiles | None
    itl: Percentiles | None
    refusal: Percentiles | None
    """Seconds from sending a request to the answer that refuses it."""
    goodput: float
    """Finished requests per second whose first token came within the limit."""
    tokens: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs all loads. Returns 0 if no request failed, other than by being refused."""
    parser = argparse.ArgumentParser("bench.overload", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--seconds", type=bounded(float, 5, 3600), default=60.0, help="of each load (%(default)s)")
    add("--prompt-tokens", type=bounded(int, 24, 4096), default=64, help="about (%(default)s)")
    add("--max-tokens", type=bounded(int, 2, 4096), default=64, help="(%(default)s)")
    limit = "seconds to the first token that the server holds to (%(default)s)"
    add("--max-ttft", type=bounded(float, 0.1, 600), default=2.0, help=limit)
    add("--json", type=Path, help="write all figures there")
    given = parser.parse_args(arguments)
    end_on_sigterm()
    workload = Workload(DEFAULT_MODEL, given.prompt_tokens, given.max_tokens, 0.0, seed=5)
    figures = uvloop.run(measure(workload, given.seconds, given.max_ttft))
    show(figures, given.max_ttft)
    if given.json:
        plain = [asdict(each) for each in figures]
        given.json.write_bytes(orjson.dumps(plain, option=orjson.OPT_INDENT_2))
    return any(each.failed for each in figures)


async def measure(workload: Workload, seconds: float, limit: float) -> list[Figures]:
    """Runs all loads, at multiples of the capacity of a server that refuses nothing."""
    show_progress("capacity")
    async with session_of(workload, 0) as session:
        closed = Closed(CLIENTS, CLIENTS * ROUNDS)
        began = perf_counter()
        records = await closed.run(partial(session.send, "rest"), float("inf"))
        capacity = len(records) / (perf_counter() - began)
    async with session_of(workload, limit) as session:
        figures = []
        for factor in FACTORS:
            load = Open(capacity * factor, seconds, seed=factor)
            show_progress(f"{factor} times {capacity:.2f} requests/s")
            began = perf_counter()
            records = await load.run(partial(session.send, "rest"), float("inf"))
            window = (began + RAMP * seconds, began + seconds)
            figures.append(figures_of(factor, load.rate, records, window, limit))
        return figures


@asynccontextmanager
async def session_of(workload: Workload, max_ttft: float) -> AsyncIterator[Session]:
    """The clients of a warm server that refuses requests which would wait longer than a limit."""
    os.environ["RAPPORT_MAX_TTFT"] = str(max_ttft)
    with rapport() as (_, target):
        async with Session(target, workload, Limits(120, 3600), None) as session:
            await session.warm_up(["rest"], WARM_UP)
            yield session


def figures_of(
    factor: float,
    offered: float,
    records: Sequence[Record],
    window: tuple[float, float],
    limit: float,
) -> Figures:
    """The figures of the requests that were sent in the window, and of those that ended in it."""
    begin, end = window
    sent = [record for record in records if begin <= record.started < end]
    accepted = [record for record in sent if record.error is None]
    refused = [record for record in sent if record.error == REFUSED]
    other = Counter(record.error for record in sent if record.error not in (None, REFUSED))
    ended = [record for record in records if record.error is None and begin <= record.ended < end]
    good = [record for record in ended if record.ttft is not None and record.ttft <= limit]
    return Figures(
        factor=factor,
        offered=offered,
        accepted=len(accepted),
        refused=len(refused),
        failed={str(error): many for error, many in other.items()},
        ttft=Percentiles.of([record.ttft for record in accepted]),
        itl=Percentiles.of([record.itl for record in accepted]),
        refusal=Percentiles.of([record.ended - record.started for record in refused]),
        goodput=len(good) / (end - begin),
        tokens=sum(record.completion_tokens for record in ended) / (end - begin),
    )


def show(figures: Sequence[Figures], limit: float) -> None:
    table = Table("times capacity", *(f"{each.factor:g}" for each in figures))
    rows = {
        "offered (requests/s)": [f"{each.offered:.2f}" for each in figures],
        "accepted / refused": [f"{each.accepted} / {each.refused}" for each in figures],
        "TTFT p50, p95 (s)": [pair(each.ttft, 1) for each in figures],
        "ITL p50, p95 (ms)": [pair(each.itl, 1000) for each in figures],
        "refused after p50, p95 (ms)": [pair(each.refusal, 1000) for each in figures],
        f"goodput, TTFT < {limit:g} s (requests/s)": [f"{each.goodput:.2f}" for each in figures],
        "tokens/s": [f"{each.tokens:.0f}" for each in figures],
    }
    for name, cells in rows.items():
        table.add_row(name, *cells)
    out = console(stderr=False)
    out.print(table)
    for each in figures:
        for error, many in each.failed.items():
            out.print(f"! {each.factor:g} times: {many} times {error}", style="bold")


def pair(percentiles: Percentiles | None, unit: float) -> str:
    if percentiles is None:
        return "-"
    return f"{percentiles.p50 * unit:.3g}, {percentiles.p95 * unit:.3g}"


if __name__ == "__main__":
    sys.exit(main())
