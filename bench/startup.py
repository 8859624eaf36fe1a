"""The time from the start of a server until it is healthy."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from bench.progress import show_progress
from bench.server import rapport


@dataclass(frozen=True, slots=True)
class Startup:
    """Seconds from `rapport serve` to the first 200 of /health, with the model in the cache."""

    rounds: list[float]
    median: float


def measure_startup(rounds: int) -> Startup:
    """Starts and stops a server `rounds` times, after one start that is not counted."""
    times = []
    for number in range(rounds + 1):
        show_progress(f"start {number} of {rounds}" if number else "a first start, not counted")
        with rapport() as (server, _):
            times.append(server.ready_after)
    return Startup(times[1:], median(times[1:]))
