"""One workload on one server: started for it alone, warmed up, and gone after it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import uvloop

from bench.errors import BenchError
from bench.load import Open
from bench.processes import Watch
from bench.server import Target
from bench.versus.asks import alone
from bench.versus.figures import Measured, Stage, Workload, sound
from bench.versus.wire import Wire
from rapport.models.cache.catalog import DEFAULT_MODEL

# Seconds that one request may take.
REQUEST_LIMIT = 120.0
# Two at a time, so that what several streams need is made ready, too.
WARM_UP = 2


@dataclass(frozen=True, slots=True)
class Contender:
    """A server with its settings, and how it is started."""

    server: str
    variant: str
    command: list[str]
    """Without its address."""
    start: Callable[[], AbstractContextManager[Target]]
    model: str = DEFAULT_MODEL
    """What requests call it; llama-server takes any name."""


@dataclass(slots=True)
class Run:
    """One workload on one contender, once. Memory is in bytes, of all its processes."""

    workload: str
    server: str
    variant: str
    round: int
    pilot: bool
    figures: list[float] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)
    rss_peak: int = 0
    pss_end: int = 0
    """Like the resident memory, but a page that n processes share counts 1/n in each."""
    uss_end: int = 0
    cpu_seconds: float = 0.0
    error: str | None = None


def measure(
    workload: Workload,
    contender: Contender,
    number: int,
    *,
    pilot: bool = False,
    arrivals: Open | None = None,
) -> Run:
    """Runs the workload; what goes wrong is in the run's `error`."""
    run = Run(workload.name, contender.server, contender.variant, number, pilot)
    try:
        with contender.start() as target:
            wire = Wire(str(target.rest), contender.model, REQUEST_LIMIT)
            uvloop.run(_measure_on(target, wire, workload, arrivals, run))
    except BenchError as error:
        run.error = str(error)
    return run


async def _measure_on(
    target: Target, wire: Wire, workload: Workload, arrivals: Open | None, run: Run
) -> None:
    seed = f"{run.workload}/{'pilot' if run.pilot else 'round'}/{run.round}"
    warming = (wire.ask(alone(100, 16, f"warm-up/{number}")) for number in range(WARM_UP))
    sound(await asyncio.gather(*warming))
    parts = target.parts()
    async with Watch(parts) as watch:
        measured: Measured = await workload.run(Stage(wire, seed, watch, arrivals))
    run.figures, run.about = measured.figures, measured.about
    run.rss_peak = sum(used.rss_peak for used in watch.resources.values())
    run.cpu_seconds = sum(used.cpu_seconds for used in watch.resources.values())
    for process in (process for part in parts.values() for process in part):
        memory = process.memory_full_info()
        run.uss_end += memory.uss
        run.pss_end += memory.pss
