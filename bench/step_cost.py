"""The time of a decode step alone and in the server: `python -m bench.step_cost`.

Prints the time of a step of `--rows` rows in a process of its own; then that of steps which serve
as many streams over REST, with the CPU time per token of the service's event loop, the gateway and
the client; and then the same while `--refusals` requests per second are refused.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

import httpx
import orjson
import psutil
import uvloop

from bench import wire
from bench.errors import BenchError
from bench.load import Open
from bench.options import bounded
from bench.scenario import Limits, Session
from bench.server import Target, end_on_sigterm, rapport
from bench.versus.asks import alone
from bench.workload import Workload
from rapport.common.model_spec import ModelSpec
from rapport.models.cache.catalog import DEFAULT_MODEL
from rapport.models.importer import ensure
from rapport.models.onnx.precision import cpu_precision
from rapport.service.engine.runtime.load import load_runner
from rapport.service.engine.runtime.providers import choose_provider

# Tokens of context of each row: about as many as the streams have halfway through.
CONTEXT = 200
WARM_UP_S = 2.0
MAX_ANSWER_TOKENS = 7000
_DECODED = re.compile(r'^rapport_step_seconds_(sum|count)\{kind="decode"\} (\S+)$', re.MULTILINE)

Seconds = dict[str, float]
"""CPU time by part of the server."""


@dataclass(frozen=True, slots=True)
class Window:
    """The steps and the CPU time of the server in some interval."""

    steps: float
    step_seconds: float
    cpu: Seconds


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures on this machine's CPU."""
    parser = argparse.ArgumentParser("bench.step_cost", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--rows", type=bounded(int, 1, 256), default=8, help="%(default)s")
    add("--seconds", type=bounded(float, 1, 600), default=8.0, help="of each part (%(default)s)")
    add("--refusals", type=bounded(float, 1, 1000), default=20.0, help="a second (%(default)s)")
    given = parser.parse_args(arguments)
    end_on_sigterm()
    print(f"a step of {given.rows} rows", file=sys.stderr)
    show_alone(given.rows, given.seconds)
    # Drafts are for a single stream. Requests that would wait are refused.
    with rapport(slots=given.rows, drafts=False, max_waiting=0) as (_, target):
        uvloop.run(measure(target, given.rows, given.seconds, given.refusals))
    # Machines change their speed within minutes: this shows whether this one did.
    show_alone(given.rows, given.seconds)


def show_alone(rows: int, seconds: float) -> None:
    """Prints the time of steps without a server."""
    steps = lone_steps(rows, seconds)
    print(f"alone: {statistics.median(steps) * 1e3:.1f} ms, {min(steps) * 1e3:.1f} at best")


def lone_steps(rows: int, seconds: float) -> list[float]:
    """The seconds of each of the steps that run one after the other for `seconds`."""
    provider = choose_provider("cpu")
    folder = ensure(DEFAULT_MODEL, cpu_precision())
    runner = load_runner(folder, ModelSpec.read(folder), provider, rows, threads=0)
    took: list[float] = []
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        runner.decode([0] * rows, [CONTEXT] * rows)
        took.append(time.perf_counter() - began)
    return took


async def measure(target: Target, rows: int, seconds: float, refusals: float) -> None:
    """Prints a line without refusals and one with them."""
    if target.rest is None:
        raise BenchError("the streams are REST's")
    bodies = [alone(20, MAX_ANSWER_TOKENS, str(row)) for row in range(rows)]
    texts = [orjson.dumps(body | {"model": DEFAULT_MODEL, "stream": True}) for body in bodies]
    streams = [asyncio.create_task(wire.receive_events(target.rest, text)) for text in texts]
    try:
        await asyncio.sleep(WARM_UP_S)
        quiet = await watched(target, partial(asyncio.sleep, seconds))
        show("in the server", quiet, rows, quiet.cpu)
        spent = {part: cost / quiet.steps for part, cost in quiet.cpu.items()}
        load = Open(refusals, seconds, seed=1)
        loaded = await watched(target, partial(refused, target, load))
        streamed = {part: cost * loaded.steps for part, cost in spent.items()}
        show(f"beside {refusals:g} refusals/s", loaded, rows, streamed)
        above = {part: loaded.cpu[part] - streamed[part] for part in streamed}
        print(f"a refusal: {per_unit(above, len(load.arrivals()))}")
        if any(stream.done() for stream in streams):
            raise BenchError("a stream ended before: these figures are of fewer rows")
    finally:
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)


async def refused(target: Target, load: Open) -> None:
    """Sends requests, all of which the server must refuse.

    Raises:
        BenchError: a request was not refused.
    """
    async with Session(target, Workload(DEFAULT_MODEL, 64, 8, 0.0, 1), Limits(60, 60), None) as one:
        records = await load.run(partial(one.send, "rest"), float("inf"))
    if others := {record.error for record in records} - {"HTTP 429"}:
        raise BenchError(f"not refused: {others}")


async def watched(target: Target, work: Callable[[], Awaitable[object]]) -> Window:
    """Measures the server while `work` is done."""
    steps, seconds = decoded(target)
    before = cpu_of(target)
    await work()
    after, (more_steps, more_seconds) = cpu_of(target), decoded(target)
    cpu = {part: after[part] - before[part] for part in before}
    return Window(more_steps - steps, more_seconds - seconds, cpu)


def decoded(target: Target) -> tuple[float, float]:
    """The number of decode steps so far, and the seconds that they took."""
    text = httpx.get(str(target.service_metrics), trust_env=False).text
    found = {name: float(value) for name, value in _DECODED.findall(text)}
    return found["count"], found["sum"]


def cpu_of(target: Target) -> Seconds:
    """CPU time so far. Of the service, only that of the event loop, which is its first thread."""
    parts = target.parts()
    (service,), (gateway,), client = parts["service"], parts["gateway"], psutil.Process()
    loop = next(thread for thread in service.threads() if thread.id == service.pid)
    seconds = {"service's loop": loop.user_time + loop.system_time}
    for name, process in (("gateway", gateway), ("client", client)):
        times = process.cpu_times()
        seconds[name] = times.user + times.system
    return seconds


def show(name: str, window: Window, rows: int, cpu: Seconds) -> None:
    step = window.step_seconds / window.steps * 1e3
    print(f"{name}: {step:.1f} ms a step; a token: {per_unit(cpu, window.steps * rows)}")


def per_unit(cpu: Seconds, count: float) -> str:
    costs = (f"{part} {seconds / count * 1e3:.2f} ms" for part, seconds in cpu.items())
    return ", ".join(costs)


if __name__ == "__main__":
    main()
